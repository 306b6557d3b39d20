"""Functional poolings inside a forward: what torch.fx finds, and the module afterwards."""

import copy
import pickle

import networks
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.projects.deeplab.resnet import DeepLabStem
from torch import nn
from torchvision.models.inception import InceptionC

from softpool_det import replace_pooling
from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d, soft_pool2d

pytestmark = pytest.mark.usefixtures("one_thread")


def expected(model, x):
    """`Functional`'s forward, written with SoftPool."""
    x = soft_pool2d(F.relu(model.norm(model.conv(x))), 3, stride=2, padding=1)
    x = soft_pool2d(x * model.scale + model.shift, 2)
    return soft_pool2d(x, 3, stride=1, padding=1)


@pytest.fixture
def model():
    return networks.Functional().eval()


def test_calls_are_replaced_and_the_module_stays(model):
    before = copy.deepcopy(model)
    children, parameters = dict(model.named_children()), dict(model.named_parameters())
    result = replace_pooling(model, "all")
    assert [tuple(row) for row in result.replaced] == [
        ("max_pool2d", "max_pool2d(3, stride=2, padding=1)", "SoftPool2d(3, stride=2, padding=1)"),
        ("max_pool2d_1", "max_pool2d(2, stride=2)", "SoftPool2d(2, stride=2)"),
        (
            "avg_pool2d",
            "avg_pool2d(3, stride=1, padding=1, count_include_pad=False)",
            "SoftPool2d(3, stride=1, padding=1)",
        ),
    ]
    x = torch.randn(2, 3, 15, 18)
    assert torch.equal(model(x), expected(before, x))
    assert isinstance(model, networks.Functional)
    assert model.out_channels == 4
    assert list(model.state_dict()) == list(before.state_dict())
    assert all(model.get_submodule(name) is child for name, child in children.items())
    assert all(model.get_parameter(name) is p for name, p in parameters.items())
    assert type(before) is networks.Functional
    assert torch.equal(before(x), networks.Functional.forward(before, x))
    assert not replace_pooling(model, "all")


def test_calls_are_replaced_one_by_one(model):
    before = copy.deepcopy(model)
    assert len(replace_pooling(model)) == 1
    assert [row.name for row in replace_pooling(model, ["avg_pool2d"]).replaced] == ["avg_pool2d"]
    assert [row.name for row in replace_pooling(model, "all").replaced] == ["max_pool2d_1"]
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(model(x), expected(before, x))


def test_callable_sees_the_module_that_does_the_same(model):
    result = replace_pooling(model, lambda name, module: isinstance(module, nn.AvgPool2d))
    assert [row.name for row in result.replaced] == ["avg_pool2d"]


def test_training_mode_still_matters(model):
    replace_pooling(model, "all")
    x = torch.randn(4, 3, 16, 16)
    in_evaluation, statistics = model(x), model.norm.running_mean.clone()
    model.train()
    assert not torch.allclose(model(x), in_evaluation)
    assert not torch.equal(model.norm.running_mean, statistics)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(model, again):
    replace_pooling(model, "all")
    x = torch.randn(1, 3, 16, 16)
    other = again(model)
    assert torch.equal(other(x), model(x))
    nn.init.zeros_(other.scale)
    assert not torch.equal(other(x), model(x))
    assert not replace_pooling(other, "all")
    assert replace_pooling(other, ["avg_pool2d"], gradient="exact")
    assert (model.avg_pool2d.gradient, other.avg_pool2d.gradient) == ("paper", "exact")


def test_scripting(model):
    replace_pooling(model, "all")
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


@pytest.mark.slow
def test_compiling_and_exporting(model):
    replace_pooling(model, "all")
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


def test_calls_in_helpers_are_found():
    model = networks.Helper()
    assert [row.name for row in replace_pooling(model).replaced] == ["max_pool2d"]
    x = torch.randn(1, 3, 10, 10)
    assert torch.equal(model(x), soft_pool2d(model.conv(x), 2))


def test_stem_follows_the_order_of_calls():
    model = networks.Residual()
    assert [row.name for row in replace_pooling(model).replaced] == ["max_pool2d"]
    assert [row.name for row in replace_pooling(model, "all").replaced] == ["late.1"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (networks.ByMode, "differs between training and evaluation"),
        (networks.Optional, "has optional arguments"),
        (networks.Remembers, "changes attributes"),
        (networks.Loops, "torch.fx cannot trace its forward"),
        (networks.AsksTypes, "asks for types"),
    ],
)
def test_a_forward_that_cannot_be_traced_is_left_and_named(module, reason):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), module())
    before = dict(vars(model[1]))
    result = replace_pooling(model, "all")
    assert not result
    assert [row.name for row in result.left] == ["1"]
    assert reason in result.left[0].reason
    for where in (["1"], lambda name, module: True):
        with pytest.raises(ValueError, match=rf"functional poolings of 1: .*{reason}"):
            replace_pooling(model, where)
    with pytest.raises(ValueError, match=rf"no stem pooling: .*1: .*{reason}"):
        replace_pooling(model)
    assert type(model[1]) is module
    assert vars(model[1]) == before


def test_global_functional_pooling_is_no_window():
    class Global(nn.Module):
        def forward(self, x):
            return F.avg_pool2d(x, x.shape[-2:]) + F.adaptive_avg_pool2d(x, 1)

    assert str(replace_pooling(nn.Sequential(Global()), "all")) == "nothing replaced"


def test_indices_of_a_functional_pooling_are_refused():
    class Indices(nn.Module):
        def forward(self, x):
            return F.max_pool2d(x, 2, return_indices=True)

    with pytest.raises(ValueError, match=r"cannot replace 0\.max_pool2d.*: return_indices=True"):
        replace_pooling(nn.Sequential(Indices()), lambda name, module: True)


def test_basic_stem_becomes_a_pooled_stem():
    model = nn.Sequential(BasicStem(norm="FrozenBN"))
    stem = model[0]
    keys, x = list(model.state_dict()), torch.randn(1, 3, 32, 32)
    assert [row.name for row in replace_pooling(model).replaced] == ["0.pool"]
    assert type(model[0]) is PooledStem
    assert model[0].conv1 is stem.conv1
    assert list(model.state_dict()) == keys
    activation = F.relu(stem.conv1(x))
    torch.testing.assert_close(model(x), soft_pool2d(activation, 3, 2, 1))
    assert not replace_pooling(model)
    assert replace_pooling(model, kernel_size=2, padding=0, ceil_mode=True)
    assert type(model[0].pool) is SoftPool2d


def test_basic_stem_by_itself():
    model = BasicStem(norm="BN")
    x = torch.randn(1, 3, 32, 32)
    expected = soft_pool2d(F.relu(model.conv1(x)), 3, 2, 1)
    assert [row.name for row in replace_pooling(model).replaced] == ["pool"]
    torch.testing.assert_close(model(x), expected)
    assert not replace_pooling(model)


def test_another_stem_of_detectron2_keeps_its_methods():
    model = nn.Sequential(DeepLabStem(norm="BN"))
    x = torch.randn(1, 3, 32, 32)
    shape = model(x).shape
    assert [row.name for row in replace_pooling(model).replaced] == ["0.max_pool2d"]
    assert model(x).shape == shape
    assert model[0].stride == 4
    assert not any(p.requires_grad for p in model[0].freeze().parameters())


def test_scripted_block_of_torchvision():
    block = InceptionC(32, 8)
    model = nn.Sequential(block).eval()
    replace_pooling(model, "all")
    x = torch.randn(1, 32, 9, 9)
    pooled = block.branch_pool(soft_pool2d(x, 3, 1, 1))
    assert torch.equal(model(x)[:, -192:], pooled)
