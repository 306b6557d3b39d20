import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from softpool_det.modeling import POOLING_REGISTRY, build_pooling
from softpool_det.ops import SoftPool2d, soft_pool2d


def test_max_pool_is_torchs():
    pool = build_pooling("MaxPool2d", 3, 2, 1, gradient="exact")
    x = torch.randn(2, 3, 9, 12)
    assert isinstance(pool, nn.MaxPool2d)
    assert torch.equal(pool(x), F.max_pool2d(x, 3, 2, 1))
    assert build_pooling("MaxPool2d", 2, 2, ceil_mode=True)(x).shape == (2, 3, 5, 6)


@pytest.mark.parametrize("gradient", ["paper", "exact"])
def test_soft_pool_takes_every_argument(gradient):
    pool = build_pooling("SoftPool2d", 3, 2, 1, True, gradient)
    assert isinstance(pool, SoftPool2d)
    x = torch.randn(1, 2, 8, 9, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    pool(x).square().sum().backward()
    soft_pool2d(y, 3, 2, 1, ceil_mode=True, gradient=gradient).square().sum().backward()
    assert torch.equal(x.grad, y.grad)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="'HardPool'; the names are SoftPool, MaxPool, AvgPool,"):
        build_pooling("HardPool", 2, 2)


def test_unknown_gradient():
    with pytest.raises(ValueError, match="gradient must be"):
        build_pooling("SoftPool2d", 2, 2, gradient="true")


def test_registered_by_name():
    """What others register gets the arguments in the order that the registry documents."""

    class AvgPool2d(nn.AvgPool2d):
        def __init__(self, kernel_size, stride, padding, ceil_mode, *, gradient):
            super().__init__(kernel_size, stride, padding, ceil_mode)

    POOLING_REGISTRY.register(AvgPool2d)
    try:
        pool = build_pooling("AvgPool2d", 2, 2, ceil_mode=True)
    finally:
        POOLING_REGISTRY._obj_map.pop("AvgPool2d")
    x = torch.randn(1, 1, 5, 5)
    assert torch.equal(pool(x), F.avg_pool2d(x, 2, 2, ceil_mode=True))


@pytest.mark.parametrize("learn_beta", ["no", "one", "channel"])
def test_temperature(learn_beta):
    pool = build_pooling("SoftPool2d", 2, 2, beta=4.0, learn_beta=learn_beta, num_channels=3)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(pool(x), soft_pool2d(x, beta=4.0))
    learned = {"no": 0, "one": 1, "channel": 3}
    assert sum(p.numel() for p in pool.parameters()) == learned[learn_beta]


@pytest.mark.parametrize(("beta", "learn_beta"), [(4.0, "no"), (1.0, "one"), (1.0, "yes")])
def test_max_pool_has_no_temperature(beta, learn_beta):
    message = f"MaxPool2d has no temperature: beta must be 1.0 and learn_beta 'no', got {beta}"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_pooling("MaxPool2d", 3, 2, 1, beta=beta, learn_beta=learn_beta, num_channels=3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"beta": -1.0}, "beta must be"),
        ({"beta": float("nan")}, "beta must be"),
        ({"learn_beta": "yes"}, "learn_beta must be"),
        ({"learn_beta": False}, "learn_beta must be"),
        ({"learn_beta": "one", "beta": 0.0}, "beta"),
        ({"learn_beta": "channel"}, "num_channels"),
    ],
)
def test_bad_temperatures(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        build_pooling("SoftPool2d", 2, 2, **arguments)


def test_temperature_of_others():
    """A layer of one's own may have one, too."""

    class PowerPool2d(nn.LPPool2d):
        def __init__(self, kernel_size, stride, padding, ceil_mode, **softness):
            assert set(softness) == {"gradient", "beta", "learn_beta", "num_channels"}
            super().__init__(softness["beta"], kernel_size, stride, ceil_mode)

    POOLING_REGISTRY.register(PowerPool2d)
    try:
        pool = build_pooling("PowerPool2d", 2, 2, beta=3.0)
    finally:
        POOLING_REGISTRY._obj_map.pop("PowerPool2d")
    assert pool.norm_type == 3
