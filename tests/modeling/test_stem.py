import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
from torch import nn

from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d


def test_pools_what_the_stock_stem_pools():
    stem = BasicStem(norm="BN").eval()
    x = torch.randn(2, 3, 33, 46)
    pooled = PooledStem(stem, nn.MaxPool2d(3, 2, 1)).eval()
    assert torch.equal(pooled(x), stem(x))
    assert (pooled.in_channels, pooled.out_channels, pooled.stride) == (3, 64, 4)


def test_state_dict_is_the_stock_one():
    stem = BasicStem(norm="FrozenBN")
    pooled = PooledStem(stem, SoftPool2d(2, 2))
    assert list(pooled.state_dict()) == list(stem.state_dict())
    assert pooled.conv1 is stem.conv1


def test_gradient_reaches_the_convolution():
    pooled = PooledStem(BasicStem(norm="BN"), SoftPool2d(2, 2, ceil_mode=True))
    pooled(torch.randn(1, 3, 21, 34)).square().sum().backward()
    assert pooled.conv1.weight.grad.abs().min() > 0


def test_freeze():
    pooled = PooledStem(BasicStem(norm="BN"), SoftPool2d(2, 2)).freeze()
    assert not any(parameter.requires_grad for parameter in pooled.parameters())
    assert type(pooled.conv1.norm).__name__ == "FrozenBatchNorm2d"


@pytest.mark.parametrize("learn_beta", ["one", "channel"])
def test_a_learned_temperature_is_not_frozen(learn_beta):
    """It was asked for, apart from what `FREEZE_AT` is for."""
    pool = SoftPool2d(2, 2, learn_beta=learn_beta, num_channels=64)
    pooled = PooledStem(BasicStem(norm="BN"), pool).freeze()
    learning = [name for name, p in pooled.named_parameters() if p.requires_grad]
    (name,) = learning
    assert name.startswith("pool.")
    pooled(torch.randn(1, 3, 32, 32)).square().sum().backward()
    assert pooled.get_parameter(name).grad.abs().min() > 0


def test_other_number_of_channels():
    with pytest.raises(ValueError, match="64"):
        PooledStem(BasicStem(), SoftPool2d(2, 2, learn_beta="channel", num_channels=32))


@pytest.mark.parametrize("stride", [1, 3, (2, 1)])
def test_stride_is_two(stride):
    with pytest.raises(ValueError, match=r"stride of the stem's pooling must be 2, got"):
        PooledStem(BasicStem(), SoftPool2d(2, stride))


@pytest.mark.parametrize("window", [(3, 2, 1, 1, True), (3, 2, 0), (5, 2, 1)])
def test_a_window_that_does_not_halve_is_refused(window):
    with pytest.raises(ValueError, match=r"must halve 16 x 16 inputs, SoftPool2d.* gives"):
        PooledStem(BasicStem(), SoftPool2d(*window))


def test_stride_as_a_pair():
    PooledStem(BasicStem(), SoftPool2d(2, (2, 2)))


@pytest.mark.parametrize("stem", [BottleneckBlock(64, 64, bottleneck_channels=16), nn.Identity()])
def test_wrong_stem(stem):
    with pytest.raises(TypeError, match=f"BasicStem, got {type(stem).__name__}"):
        PooledStem(stem, SoftPool2d(2, 2))
