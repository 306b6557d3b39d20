"""The stem's norm, ReLU and pooling as one operator: the same numbers, wherever it is valid."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.modeling.backbone.resnet import BasicStem
from fused_stems import Operators, images, make_stem, operators, soft_pool, unfused
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")


layouts = pytest.mark.parametrize("channels_last", [False, True])
WINDOWS = [{"ceil_mode": True}, {"kernel_size": 3, "stride": 2, "padding": 1}]


@layouts
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN"])
def test_inference_equals_the_modules(norm, window, channels_last):
    stem = make_stem(norm, **window).to(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    x = images(channels_last)
    with torch.no_grad():
        assert operators(stem, x) == ["fused soft_pool"]
        actual, expected = stem(x), unfused(stem, x)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert actual.stride() == expected.stride()


@layouts
@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("window", WINDOWS)
def test_training_equals_the_modules(window, gradient, channels_last):
    stem, x = make_stem(gradient=gradient, **window).train(), images(channels_last)
    upstream = torch.randn_like(unfused(stem, x))
    names = operators(lambda: stem(x).backward(upstream))
    assert names == ["fused soft_pool", "fused soft_pool_backward"]
    expected = torch.autograd.grad(unfused(stem, x), stem.conv1.weight, upstream)[0]
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(stem.conv1.weight.grad, expected, rtol=1e-5, atol=tolerance)


TEMPERATURES = [(4.0, "no"), (0.0, "no"), (float("inf"), "no"), (2.0, "one"), (2.0, "channel")]


@layouts
@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("beta", "learn_beta"), TEMPERATURES)
@pytest.mark.parametrize("frozen", [False, True])
def test_temperature_equals_the_modules(frozen, beta, learn_beta, window, gradient, channels_last):
    pool = soft_pool(beta, learn_beta, gradient=gradient, **window)
    stem, x = make_stem(pool=pool).train(), images(channels_last)
    if frozen:
        stem.freeze()
    learning = [p for p in stem.parameters() if p.requires_grad]
    assert len(learning) == (not frozen) + (learn_beta != "no")
    expected = unfused(stem, x)
    with Operators() as calls:
        actual = stem(x)
    assert calls.names == ["fused soft_pool"]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    if not learning:
        return
    # Of one sign: a temperature's gradient, a sum over all windows, does not cancel then.
    upstream = torch.rand_like(expected)
    for mine, other in zip(
        torch.autograd.grad(actual, learning, upstream),
        torch.autograd.grad(expected, learning, upstream),
        strict=True,
    ):
        assert mine.any()
        tolerance = 1e-5 * other.abs().max().item()
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("learn_beta", ["one", "channel"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_learned_temperature_in_autocast(dtype, learn_beta):
    """It stays in float32, and so does its gradient."""
    stem, x = make_stem(pool=soft_pool(2.0, learn_beta)), images()
    with torch.autocast("cpu", dtype):
        actual, separate = stem(x), unfused(stem, x)
    assert actual.dtype == separate.dtype == dtype
    (temperature,) = stem.pool.parameters()
    mine, other = (
        torch.autograd.grad(output.float().square().sum(), temperature)[0]
        for output in (actual, separate)
    )
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, other, rtol=0.05, atol=0.02 * other.abs().max().item())


def test_learned_temperature_and_norm():
    """The norm's gradient needs the modules; the temperature gets its own from them."""
    stem, x = make_stem("BN", soft_pool(2.0, "channel")), images()
    assert operators(lambda: stem(x).sum().backward()) == ["soft_pool", "soft_pool_backward"]
    assert all(p.grad.any() for p in stem.parameters())


def test_frozen_stem_passes_the_gradient_on():
    stem, x = make_stem(), images().requires_grad_()
    for parameter in stem.parameters():
        parameter.requires_grad = False
    actual, expected = (
        torch.autograd.grad(function(x).square().sum(), x)[0]
        for function in (stem, lambda x: unfused(stem, x))
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_double_precision(norm):
    stem, x = make_stem(norm).double(), images().double()
    with torch.no_grad():
        torch.testing.assert_close(stem(x), unfused(stem, x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("how", ["cast", "autocast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_rounding_of_the_modules_and_nearer_the_truth(dtype, how, grad):
    stem, x = make_stem(), images()
    if how == "cast":
        stem, x = stem.to(dtype), x.to(dtype)
    # Both from one convolution in half precision; the truth follows it in float64.
    wide = copy.deepcopy(stem).double()
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, enabled=how == "autocast"):
        assert operators(stem, x) == ["fused soft_pool"]
        actual, separate = stem(x), unfused(stem, x)
        features = F.conv2d(x, stem.conv1.weight, None, 2, 3)
        assert actual.requires_grad == separate.requires_grad == grad
    assert actual.dtype == separate.dtype == features.dtype == dtype
    with torch.no_grad():
        line = wide.conv1.norm(features.double())
        truth = stem.pool(line.relu())
    eps = torch.finfo(dtype).eps
    # Rounding of the steps between: relative to the terms of x * scale + shift.
    terms = line.abs().max() + 2 * wide.conv1.norm(torch.zeros_like(line)).abs().max()
    assert (actual.double() - separate.double()).abs().max() < 2 * eps * terms
    own, theirs = ((output.double() - truth).abs() for output in (actual, separate))
    assert (own <= 0.51 * eps * truth.abs() + 1e-6).all()
    assert own.mean() < theirs.mean()


def test_convolution_with_bias_and_norm_without_weight():
    stem = make_stem("BN")
    stem.conv1.norm = nn.BatchNorm2d(64, affine=False).eval()
    stem.conv1.bias = nn.Parameter(torch.randn(64))
    x = images()
    assert operators(stem, x) == ["fused soft_pool"]
    torch.testing.assert_close(stem(x), unfused(stem, x), rtol=1e-5, atol=1e-5)


def test_follows_what_is_loaded_into_the_norm():
    stem, x = make_stem(), images()
    before = stem(x)
    stem.load_state_dict({name: values * 2 for name, values in stem.state_dict().items()})
    assert not torch.equal(stem(x), before)
    torch.testing.assert_close(stem(x), unfused(stem, x), rtol=1e-5, atol=1e-5)


def test_state_dict_is_the_stock_one():
    stem = BasicStem(norm="FrozenBN")
    fused = PooledStem(copy.deepcopy(stem), SoftPool2d(2, 2))
    fused(images())
    assert {name: values.shape for name, values in fused.state_dict().items()} == {
        name: values.shape for name, values in stem.state_dict().items()
    }


def test_deepcopy():
    stem, x = make_stem(), images()
    assert torch.equal(copy.deepcopy(stem)(x), stem(x))


@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(gradient, dynamic):
    torch.compiler.reset()
    stem = make_stem(ceil_mode=True, gradient=gradient).train()
    compiled = torch.compile(stem, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for x in (images(), images()[:, :, 2:, 3:]):
        results = []
        for function in (compiled, stem):
            output = function(x)
            grads = torch.autograd.grad(output.square().sum(), stem.conv1.weight)
            results.append((output, *grads))
        torch.testing.assert_close(*results)


def test_symbolic_trace_keeps_the_buffers():
    stem, x = make_stem(), images()
    traced = torch.fx.symbolic_trace(stem)
    assert operators(traced, x) == ["fused soft_pool"]
    state = {name: values * 2 for name, values in stem.state_dict().items()}
    stem.load_state_dict(state)
    traced.load_state_dict(state)
    assert torch.equal(traced(x), stem(x))


def test_distributed_data_parallel():
    stem, x = make_stem().train(), images()
    (expected,) = torch.autograd.grad(stem(x).sum(), stem.conv1.weight)
    store, minute = dist.HashStore(), timedelta(minutes=1)
    dist.init_process_group("gloo", rank=0, world_size=1, store=store, timeout=minute)
    try:
        names = operators(lambda: DistributedDataParallel(stem)(x).sum().backward())
    finally:
        dist.destroy_process_group()
    assert names == ["fused soft_pool", "fused soft_pool_backward"]
    torch.testing.assert_close(stem.conv1.weight.grad, expected)


def test_statistics_in_double_precision_on_single_precision_images():
    stem = make_stem()
    stem.conv1.norm.double()
    torch.testing.assert_close(
        stem(images()), unfused(stem, images()), check_dtype=False, rtol=1e-5, atol=1e-6
    )
    assert stem(images()).dtype == torch.float32
