"""replace_pooling with a temperature, a number or one that is learned."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import Functional
from torch import nn

from softpool_det import replace_pooling
from softpool_det.layers.learning import pooling_parameters
from softpool_det.ops import SoftPool2d, soft_pool2d


def resnet_like():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0, float("inf")])
def test_number(beta):
    model = resnet_like().eval()
    x = torch.randn(1, 3, 17, 20)
    features = model[:3](x)
    result = replace_pooling(model, beta=beta)
    torch.testing.assert_close(model(x), soft_pool2d(features, 3, 2, 1, beta=beta))
    assert result.replaced[0].after == f"SoftPool2d(3, stride=2, padding=1, beta={beta})"
    assert list(model.state_dict()) == list(resnet_like().state_dict())


@pytest.mark.parametrize(("learn_beta", "count"), [("one", 1), ("channel", 8)])
def test_learned(learn_beta, count):
    model = resnet_like()
    before = set(model.state_dict())
    result = replace_pooling(model, beta=4.0, learn_beta=learn_beta, num_channels=8)
    after = f"SoftPool2d(3, stride=2, padding=1, beta=4.0, learn_beta={learn_beta!r})"
    assert result.replaced[0].after == after
    ((name, temperature),) = pooling_parameters(model).items()
    assert set(model.state_dict()) - before == {name}
    assert temperature.numel() == count
    start = temperature.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    assert (temperature != start).all()


def test_channels_have_to_be_named():
    """The layer before a pooling need not be the convolution that was defined before it."""
    model = resnet_like()
    with pytest.raises(ValueError, match=r"cannot replace 3: .*num_channels.*once for each"):
        replace_pooling(model, learn_beta="channel")
    assert type(model[3]) is nn.MaxPool2d
    replace_pooling(model, learn_beta="channel", num_channels=16)
    with pytest.raises(ValueError, match=r"beta.*8"):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"beta": -1.0}, ValueError, "cannot replace 3: beta must be"),
        ({"beta": "hot"}, TypeError, "cannot replace 3: beta must be"),
        ({"learn_beta": "all"}, ValueError, "cannot replace 3: learn_beta must be"),
        ({"beta": 2.0, "pool": "MaxPool2d"}, TypeError, "MaxPool has no argument 'beta'"),
    ],
)
def test_bad_temperatures(arguments, error, complaint):
    model = resnet_like()
    with pytest.raises(error, match=complaint):
        replace_pooling(model, **arguments)
    assert type(model[3]) is nn.MaxPool2d


def test_second_call():
    model = resnet_like()
    replace_pooling(model, beta=4.0, learn_beta="channel", num_channels=8)
    pool = model[3]
    assert not replace_pooling(model)
    assert not replace_pooling(model, beta=4.0, learn_beta="channel", num_channels=8)
    assert model[3] is pool
    assert replace_pooling(model, beta=2.0)
    assert model[3] is not pool
    torch.testing.assert_close(model[3].beta, torch.full((8,), 2.0))


def test_other_settings_keep_what_was_learned():
    model = resnet_like()
    replace_pooling(model, learn_beta="channel", num_channels=8)
    (temperature,) = pooling_parameters(model).values()
    nn.init.normal_(temperature)
    learned = model[3].beta.detach().clone()
    replace_pooling(model, gradient="exact")
    assert model[3].gradient == "exact"
    assert torch.equal(model[3].beta, learned)
    replace_pooling(model, beta=3.0, learn_beta="no")
    assert model[3].beta == 3.0
    assert not pooling_parameters(model)


def test_max_pooling_takes_it_away_again():
    model = resnet_like().eval()
    x, state = torch.randn(1, 3, 17, 20), list(model.state_dict())
    expected = model(x)
    replace_pooling(model, beta=2.0, learn_beta="one")
    result = replace_pooling(model, pool="MaxPool2d")
    assert result.replaced[0].after == "MaxPool2d(3, stride=2, padding=1)"
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == state
    assert not hasattr(model[3], "learn_beta")


def test_functional_poolings():
    model = Functional()
    result = replace_pooling(model, "all", beta=2.0, learn_beta="channel", num_channels=4)
    assert len(pooling_parameters(model)) == len(result) == 3
    again = copy.deepcopy(model)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all((p.grad != 0).all() for p in pooling_parameters(model).values())
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(("learn_beta", "count"), [("no", 0), ("one", 1), ("channel", 5)])
def test_global_pooling(learn_beta, count):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    x = torch.randn(2, 5, 6, 7)
    softness = {"beta": 3.0, "learn_beta": learn_beta, "num_channels": 5}
    assert replace_pooling(model, ["0"], **softness)
    torch.testing.assert_close(model(x), soft_pool2d(x, (6, 7), beta=3.0))
    assert sum(p.numel() for p in pooling_parameters(model).values()) == count
    assert not replace_pooling(model, ["0"], **softness)
    assert f"learn_beta={learn_beta!r}" in repr(model[0]) or not count
    replace_pooling(model, ["0"], beta=0.0, learn_beta="no")
    torch.testing.assert_close(model(x), F.adaptive_avg_pool2d(x, 1))


def test_state_of_a_learned_one_loads_back():
    model, other = resnet_like(), resnet_like()
    replace_pooling(model, learn_beta="channel", num_channels=8)
    (temperature,) = pooling_parameters(model).values()
    nn.init.normal_(temperature)
    assert "SoftPool" in str(replace_pooling(other, learn_beta="channel", num_channels=8))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[3].beta, model[3].beta)
    missing, unexpected = other.load_state_dict(resnet_like().state_dict(), strict=False)
    assert (missing, unexpected) == (list(pooling_parameters(other)), [])
    assert isinstance(other[3], SoftPool2d)


def test_other_poolings_keep_what_they_learned():
    model = resnet_like()
    replace_pooling(model, pool="lip", num_channels=8)
    with torch.no_grad():
        model[3].conv.weight.normal_()
    learned = model[3].conv.weight.clone()
    assert len(replace_pooling(model, pool="lip")) == 0
    replace_pooling(model, pool="lip", num_channels=8, kernel_size=2, padding=0, ceil_mode=True)
    assert model[3].kernel_size == 2
    assert torch.equal(model[3].conv.weight, learned)


def test_half_models_learn_in_float32():
    model = resnet_like().bfloat16()
    replace_pooling(model, learn_beta="one", beta=4.0)
    assert model[3].log_beta.dtype == torch.float32
    assert len(replace_pooling(model, learn_beta="one", beta=4.0)) == 0
