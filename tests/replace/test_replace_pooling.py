"""Which modules `replace_pooling` replaces, by what, and what it leaves as it was."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Shared
from torch import nn

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool1d, SoftPool2d, SoftPool3d

SOFT = {1: SoftPool1d, 2: SoftPool2d, 3: SoftPool3d}
POOLS = {
    **{dims: (getattr(nn, f"MaxPool{dims}d"), getattr(nn, f"AvgPool{dims}d")) for dims in SOFT}
}


def resnet_like():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    )


@pytest.mark.parametrize("dims", SOFT)
@pytest.mark.parametrize("kind", [0, 1])
def test_dimension_and_settings_are_the_replaced_layers(dims, kind):
    settings = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    if kind == 0:
        settings = {**settings, "dilation": 2}
    model = nn.Sequential(POOLS[dims][kind](**settings))
    x = torch.randn(2, 3, *[11] * dims)
    expected = model(x)
    assert len(replace_pooling(model, "all")) == 1
    assert type(model[0]) is SOFT[dims]
    settings["dilation"] = settings.get("dilation", 1)
    assert {name: tuple(_numbers(getattr(model[0], name))) for name in settings} == {
        name: tuple(_numbers(value)) for name, value in settings.items()
    }
    assert model(x).shape == expected.shape
    assert not torch.equal(model(x), expected)


def _numbers(value):
    # AvgPool1d makes tuples of numbers.
    return value if isinstance(value, tuple) else (value,)


def test_result_is_soft_pooling():
    model = resnet_like().eval()
    x = torch.randn(1, 3, 17, 20)
    features = model[:3](x)
    replace_pooling(model, gradient="exact")
    weights = features.exp()
    expected = F.avg_pool2d(features * weights, 3, 2, 1) / F.avg_pool2d(weights, 3, 2, 1)
    # The zeros of the padding are in both averages, and cancel.
    torch.testing.assert_close(model(x), expected)
    assert model[3].gradient == "exact"


def test_nothing_else_changes():
    model = resnet_like()
    model[1].eval()
    before = dict(model.named_modules())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    replace_pooling(model)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    changed = [name for name, module in model.named_modules() if module is not before[name]]
    assert changed == ["3"]
    assert model[0].training
    assert not model[1].training


def test_second_call_finds_nothing_to_do():
    model = resnet_like()
    assert replace_pooling(model)
    pool = model[3]
    for where in ("stem", "all", ["3"], lambda name, module: name == "3"):
        again = replace_pooling(model, where)
        assert not again
        assert "already so" in str(again)
        assert model[3] is pool


def test_max_pooling_takes_it_away_again():
    model = resnet_like().eval()
    x = torch.randn(1, 3, 15, 18)
    expected = model(x)
    replace_pooling(model, kernel_size=2, padding=0, ceil_mode=True)
    assert not torch.equal(model(x), expected)
    replace_pooling(model, pool="MaxPool2d", kernel_size=3, padding=1, ceil_mode=False)
    assert type(model[3]) is nn.MaxPool2d
    assert torch.equal(model(x), expected)


def test_settings_of_a_soft_pool_can_be_changed():
    model = resnet_like()
    replace_pooling(model, gradient="exact")
    assert replace_pooling(model, kernel_size=2, padding=0, ceil_mode=True)
    assert (model[3].kernel_size, model[3].gradient) == (2, "exact")


def test_a_module_with_several_names_is_replaced_under_all():
    model = Shared()
    x = torch.randn(1, 3, 16, 16)
    shape = model(x).shape
    assert len(replace_pooling(model, ["second"])) == 1
    assert type(model.first) is SoftPool2d
    assert model.first is model.second
    assert model(x).shape == shape


def test_mode_and_hooks_go_to_the_replacement():
    model = resnet_like().eval()
    seen = []
    handle = model[3].register_forward_hook(lambda *arguments: seen.append(arguments[2].shape))
    replace_pooling(model)
    assert not model[3].training
    model(torch.randn(1, 3, 16, 16))
    handle.remove()
    model(torch.randn(1, 3, 16, 16))
    assert seen == [(1, 8, 4, 4)]


def test_what_others_wrote_on_the_module_goes_along():
    model = resnet_like()
    model[3].index = 7
    replace_pooling(model)
    assert model[3].index == 7
    assert not hasattr(model[3], "return_indices")


def test_all_leaves_what_cannot_be_replaced_and_says_why():
    class Same(nn.MaxPool2d):
        def forward(self, input):
            return super().forward(F.pad(input, (0, 1, 0, 1)))

    model = nn.ModuleDict(
        {
            "max": nn.MaxPool2d(2),
            "global": nn.AdaptiveAvgPool2d(1),
            "one": nn.MaxPool2d(1, 2),
            "indices": nn.MaxPool2d(2, return_indices=True),
            "divisor": nn.AvgPool2d(2, divisor_override=3),
            "same": Same(2),
        }
    )
    before = dict(model.items())
    result = replace_pooling(model, "all")
    assert [row.name for row in result.replaced] == ["max"]
    assert [row.name for row in result.left] == [name for name in before if name != "max"]
    for name, reason in {
        "global": "adaptive",
        "one": "windows of one element",
        "indices": "unpooling",
        "divisor": "divisor_override=3",
        "same": "Same is a MaxPool2d with a forward of its own",
    }.items():
        assert model[name] is before[name]
        assert any(row.name == name and reason in row.reason for row in result.left)
        assert reason in str(result)
    for name in ("indices", "divisor", "same"):
        with pytest.raises(ValueError, match=f"cannot replace {name}: "):
            replace_pooling(model, [name])


@pytest.mark.parametrize("dims", SOFT)
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_a_global_pooling_is_replaced_where_it_is_named(dims, kind):
    model = nn.Sequential(getattr(nn, f"Adaptive{kind}Pool{dims}d")(1))
    x = torch.randn(2, 3, *[5] * dims, requires_grad=True)
    assert replace_pooling(model, ["0"], gradient="exact")
    weights = x.flatten(2).softmax(-1)
    expected = (weights * x.flatten(2)).sum(-1).reshape(2, 3, *[1] * dims)
    torch.testing.assert_close(model(x), expected)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])
    assert not replace_pooling(model, ["0"], gradient="exact")
    with pytest.raises(ValueError, match="no argument but gradient"):
        replace_pooling(model, ["0"], kernel_size=2)
    with pytest.raises(ValueError, match="only output size 1"):
        replace_pooling(nn.Sequential(nn.AdaptiveAvgPool2d((1, 7))), ["0"])


def test_other_sizes_are_refused_and_nothing_is_changed():
    model = nn.Sequential(nn.AvgPool2d(2), resnet_like())
    with pytest.raises(ValueError, match=r"1\.3: for inputs of size 1, .*; ceil_mode=True keeps"):
        replace_pooling(model, "all", kernel_size=2, padding=0)
    assert type(model[0]) is nn.AvgPool2d
    with pytest.raises(ValueError, match=r"cannot replace 3: .* sizes must stay$"):
        replace_pooling(resnet_like(), stride=1)
    with pytest.raises(ValueError, match="cannot replace 3: padding must be"):
        replace_pooling(resnet_like(), padding=2)


numbers = st.integers(1, 4)


@given(
    st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]),
    st.tuples(numbers, numbers, st.integers(0, 2), st.booleans()),
    st.fixed_dictionaries(
        {},
        optional={
            "kernel_size": numbers,
            "stride": numbers,
            "padding": st.integers(0, 2),
            "ceil_mode": st.booleans(),
        },
    ),
)
@settings(max_examples=60, deadline=None)
def test_sizes_stay_or_it_is_refused(layer, arguments, changes):
    """Against PyTorch's own sizes, for inputs far beyond the window."""
    kernel_size, stride, padding, ceil_mode = arguments
    old = layer(kernel_size, stride, min(padding, kernel_size // 2), ceil_mode=ceil_mode)
    changes = {**changes, "padding": min(changes.get("padding", old.padding), 2)}
    model = nn.Sequential(old)
    try:
        replace_pooling(model, lambda name, module: True, **changes)
        kept = True
    except ValueError as error:
        assert "sizes must stay" in str(error) or "padding must be" in str(error)  # noqa: PT017
        kept = "padding must be" in str(error)
        if kept:
            return
    new = model[0] if kept else SoftPool2d(**{**_settings(old), **changes})
    same = [_shape(old, size) in (None, _shape(new, size)) for size in range(1, 40)]
    assert all(same) == kept


def _settings(pool):
    return {n: getattr(pool, n) for n in ("kernel_size", "stride", "padding", "ceil_mode")}


def _shape(pool, size):
    try:
        return pool(torch.zeros(1, 1, size, size)).shape
    except (RuntimeError, ValueError):
        return None


def test_names_of_modules_mean_the_poolings_in_them():
    model = nn.Sequential(resnet_like(), nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)))
    assert [row.name for row in replace_pooling(model, ["1"]).replaced] == ["1.0"]
    with pytest.raises(ValueError, match=r"'0\.0' in where has no pooling"):
        replace_pooling(model, ["0.0"])
    with pytest.raises(ValueError, match=r"'0\.33' in where is not a module of the model; .* 0\.3"):
        replace_pooling(model, ["0.33"])


def test_callable_chooses():
    model = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1))
    asked = []

    def where(name, module):
        asked.append(name)
        return isinstance(module, nn.AvgPool2d)

    assert [row.name for row in replace_pooling(model, where).replaced] == ["1"]
    assert asked == ["0", "1", "2"]


def test_bad_arguments():
    model = resnet_like()
    with pytest.raises(ValueError, match=r"a name goes in a list, \['3'\]"):
        replace_pooling(model, "3")
    with pytest.raises(
        ValueError, match="pool must name a pooling: no pooling is called 'HardPool'"
    ):
        replace_pooling(model, pool="HardPool")
    with pytest.raises(TypeError, match="SoftPool has no argument 'kernel'"):
        replace_pooling(model, kernel=2)
    with pytest.raises(TypeError, match="MaxPool has no argument 'gradient'"):
        replace_pooling(model, pool="MaxPool2d", gradient="exact")
    with pytest.raises(ValueError, match='gradient must be "paper" or "exact"'):
        replace_pooling(model, gradient="true")
    with pytest.raises(ValueError, match="model must contain the pooling"):
        replace_pooling(nn.MaxPool2d(2), "all")
    assert type(model[3]) is nn.MaxPool2d


def test_table():
    text = str(replace_pooling(copy.deepcopy(resnet_like()), kernel_size=2, padding=0, ceil_mode=1))
    assert text.splitlines()[2].split("|")[1:4] == [
        " 3          ",
        " MaxPool2d(3, stride=2, padding=1) ",
        " SoftPool2d(2, stride=2, ceil_mode=1) ",
    ]
    assert str(replace_pooling(nn.Sequential(nn.ReLU()), "all")) == "nothing replaced"


def test_works_where_there_is_no_detectron2():
    program = """
import sys
# What an import then finds is nothing.
sys.modules |= dict.fromkeys(["detectron2", "fvcore", "tabulate"])
import torch
from softpool_det import replace_pooling
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.MaxPool2d(2))
print(len(replace_pooling(model)), model(torch.zeros(1, 3, 8, 8)).shape)
"""
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout == "1 torch.Size([1, 4, 3, 3])\n"
