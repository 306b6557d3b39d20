"""Where the stem's norm, ReLU and pooling are one operator, and where the modules are called."""

from __future__ import annotations

import copy

import pytest
import torch
from fused_stems import images, make_stem, operators, unfused
from torch import nn

from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")


def learned_norm(stem):
    assert stem.conv1.norm.weight.requires_grad


def norm_in_training(stem):
    stem.train()


def norm_without_statistics(stem):
    stem.conv1.norm = nn.BatchNorm2d(64, track_running_stats=False).eval()


def other_pool(stem):
    stem.pool = nn.MaxPool2d(3, 2, 1)


def pool_of_a_subclass(stem):
    stem.pool = type("Mine", (SoftPool2d,), {})(2)


def other_norm(stem):
    stem.conv1.norm = nn.GroupNorm(32, 64)


def no_norm(stem):
    stem.conv1.norm = None


def activation_in_the_convolution(stem):
    stem.conv1.activation = nn.Tanh()


def parametrized_convolution(stem):
    nn.utils.parametrizations.weight_norm(stem.conv1)


@pytest.mark.parametrize(
    "change",
    [
        learned_norm,
        norm_in_training,
        norm_without_statistics,
        other_pool,
        pool_of_a_subclass,
        other_norm,
        no_norm,
        activation_in_the_convolution,
        parametrized_convolution,
    ],
)
def test_modules_are_called_where_one_operator_would_be_wrong(change):
    stem, x = make_stem("BN"), images()
    change(stem)
    assert "fused soft_pool" not in operators(stem, x)
    other = copy.deepcopy(stem)
    assert torch.equal(stem(x), unfused(other, x))


def test_learned_norm_in_eval_mode_gets_its_gradient():
    stem = make_stem("BN")
    stem(images()).sum().backward()
    assert stem.conv1.norm.weight.grad.any()
    assert stem.conv1.norm.bias.grad.any()


@pytest.mark.parametrize(
    ("where", "register"),
    [
        ("conv1", "register_forward_hook"),
        ("conv1", "register_forward_pre_hook"),
        ("conv1.norm", "register_forward_hook"),
        ("conv1.norm", "register_forward_pre_hook"),
        ("pool", "register_forward_hook"),
        ("pool", "register_forward_pre_hook"),
        # Not before the ReLU in place: PyTorch forbids that in the stock stem too.
        ("pool", "register_full_backward_hook"),
        ("pool", "register_full_backward_pre_hook"),
    ],
)
def test_hooks_are_called(where, register):
    stem, calls = make_stem(), []
    handle = getattr(stem.get_submodule(where), register)(lambda *_: calls.append(1))
    stem(images().requires_grad_()).sum().backward()
    assert calls == [1]
    handle.remove()
    assert "fused soft_pool" in operators(stem, images())
