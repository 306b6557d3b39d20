"""Numbers far from one, half types, infinities and NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_cases import (
    ALL,
    CHANNELS,
    DRAWN,
    EVERY,
    NOT_MEANS,
    OURS,
    SHAPES,
    build,
    dims_of,
    expected_output,
    random_input,
    window_of,
)

HALF_TYPES = [torch.bfloat16, torch.float16]
NAN, INF = float("nan"), float("inf")


def value_and_gradients(layer, input):
    """The output, and gradients of the input and of the parameters for an upstream of ones."""
    leaf = input.clone().requires_grad_()
    output = layer(leaf)
    return output, torch.autograd.grad(output.sum(), [leaf, *layer.parameters()])


# Of which the result is no larger than the largest element. LIP's convolution is in float16, too.
BOUNDED = [name for name in OURS if name not in (*NOT_MEANS, "LIPPool")]


def is_squared(name, scale):
    """The variance of LIP's norm is a square, and no number of float32."""
    return name == "LIPPool" and scale > 1


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("name", ALL)
def test_numbers_far_from_one_in_float32(name, scale):
    """Values as in float64, finite gradients."""
    if is_squared(name, scale):
        pytest.skip("LIP's norm has squares")
    dims = dims_of(name)[-1]
    layer = build(name, dims, 3, 2, 1)
    input = (random_input(name, SHAPES[dims]) * scale).float()
    expected = layer(input.double()).detach()
    output, grads = value_and_gradients(layer.float(), input)
    error = (output.double() - expected).abs() / scale
    assert error.max() < 1e-4, error.max()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", ALL)
def test_the_float64_values_of_such_numbers_are_those_of_the_formula(name):
    """By which the test before judges; DPP's squares overflow only beyond 1e150."""
    dims = dims_of(name)[0]
    layer = build(name, dims, 3, 2, 1)
    for scale in (1e30, 1e-30):
        values = random_input(name, SHAPES[dims]) * scale
        with np.errstate(over="ignore"):
            expected = expected_output(name, layer, values.numpy(), window_of(dims, 3, 2, 1))
        torch.testing.assert_close(
            layer(values).detach() / scale, torch.from_numpy(expected) / scale, rtol=0, atol=1e-8
        )


@pytest.mark.parametrize(("value", "exponent"), [(0.01, 25.0), (100.0, 20.0), (8.0, 6.0)])
def test_powers_do_not_overflow(value, exponent):
    """torch's lp_pool gives 0 and infinity for them, the last one in float16."""
    dtype = torch.float16 if value == 8 else torch.float32
    input = torch.full((1, CHANNELS, 4, 4), value, dtype=dtype)
    for name, option, expected in (
        ("PowerAvgPool", {"exponent": exponent}, value * 4 ** (1 / exponent)),
        ("LPPool", {"p": exponent, "learn_p": "no"}, value),
    ):
        layer = build(name, 2, 2, **option).to(dtype)
        output, grads = value_and_gradients(layer, input)
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(output, torch.full_like(output, expected), rtol=4 * eps, atol=0)
        assert grads[0].isfinite().all()
        assert (grads[0] > 0).all()


# Those with squares scale by the largest element of a map, which leaves less room.
SMALL = [("LPPool", 1e-30), ("MixedPool", 1e-30), ("S3Pool", 1e-30)]
SMALL += [(name, 1e-10) for name in ("EDSCWPool", "StochasticPool", "PowerAvgPool")]


@pytest.mark.parametrize(("name", "share"), SMALL)
def test_small_windows_beside_large_ones(name, share):
    """They keep their values in one map with windows of 1e10."""
    layer = build(name, 1, 2).float()
    small = torch.tensor([[[0.2, 0.7, 0.1, 0.9, 0.4, 0.4]] * CHANNELS])
    expected = layer(small).detach() * 1e10 * share
    input = torch.cat([small * 1e10, small * 1e10 * share], -1)
    output, grads = value_and_gradients(layer, input)
    torch.testing.assert_close(output[..., 3:], expected, rtol=1e-4, atol=0)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_largest_numbers_of_float16_do_not_overflow(name):
    dims = dims_of(name)[-1]
    layer = build(name, dims, 3, 2, 1)
    input = (random_input(name, SHAPES[dims]).clamp(-1, 1) * 6e4).half()
    expected = layer(input.double()).detach()
    output, grads = value_and_gradients(layer.half(), input)
    assert output.dtype == torch.float16
    assert ((output.double() - expected).abs() < 6e4 * 5e-3).all()
    assert grads[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name", OURS)
def test_half_types_are_close_to_float64(name, dtype):
    """Arithmetic is in float32: one rounding of the result; a convolution sums rounded products."""
    dims = dims_of(name)[-1]
    layer = build(name, dims, 2, 2, 1).to(dtype)
    input = random_input(name, SHAPES[dims]).to(dtype)
    output, grads = value_and_gradients(layer, input)
    wide = layer.double()
    expected, expected_grads = value_and_gradients(wide, input.double())
    eps = torch.finfo(dtype).eps
    # Logits go up to 12, and their errors are passed on by exp.
    slack = 40 if name == "LIPPool" else 2
    for actual, wanted in zip((output, *grads), (expected, *expected_grads), strict=True):
        assert actual.dtype == dtype
        largest = wanted.abs().max().item()
        error = (actual.double() - wanted).abs().max().item()
        assert error <= slack * eps * max(largest, 1e-2), (error, largest)


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name", OURS)
def test_autocast_runs_every_layer(name, dtype):
    layer = build(name, dims_of(name)[-1], 3, 2, 1).float()
    input = random_input(name, SHAPES[dims_of(name)[-1]])
    expected = layer(input.float()).detach()
    with torch.autocast("cpu", dtype):
        for values in (input.float(), input.to(dtype)):
            output = layer(values)
            assert output.dtype == values.dtype
            torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.3)


@pytest.mark.parametrize("name", [name for name in OURS if name != "LIPPool"])
def test_nan_stays_in_the_windows_that_hold_it(name):
    dims = dims_of(name)[-1]
    layer = build(name, dims, 2)
    input = random_input(name, (1, CHANNELS, *[6] * dims))
    input[0, 0, ..., 5] = NAN
    output = layer(input)
    # The guide and the blur see the elements beside.
    clean = 1 if name in ("DPPPool", "BlurPool") else 2
    assert output[0, 0, ..., 2].isnan().all()
    assert output[0, 1:].isfinite().all()
    assert output[0, 0, ..., :clean].isfinite().all()


@pytest.mark.parametrize("name", DRAWN)
def test_nan_stays_in_training_mode_too(name):
    layer = build(name, 2, 2).train()
    input = random_input(name, (1, CHANNELS, 6, 6))
    input[0, 0, :, 4:] = NAN
    output = layer(input)
    assert output[0, 0, :, 2].isnan().all()
    assert output[0, 0, :, :2].isfinite().all()


@pytest.mark.parametrize("name", ["MaxPool", "SoftPool", "S3Pool"])
def test_windows_of_minus_infinity_give_it(name):
    layer = build(name, 2, 2)
    input = torch.full((1, CHANNELS, 4, 4), -INF, dtype=torch.float64)
    assert (layer(input) == -INF).all()


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", [name for name in OURS if name != "BlurPool"])
def test_windows_wholly_in_the_padding_do_no_harm_beside(name, train):
    """Taps at -1 and 2 of two elements see none: no crash, and no NaN in the gradient."""
    layer = build(name, 1, 2, 1, 1, 3).train(train)
    input = random_input(name, (1, CHANNELS, 2)).requires_grad_()
    output = layer(input)
    assert output.shape == (1, CHANNELS, 1)
    (grad_input,) = torch.autograd.grad(output.sum(), input)
    assert grad_input.isfinite().all()


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_inputs_are_not_written_to(name, dims):
    for mode in (False, True):
        layer = build(name, dims, 3, 2, 1).train(mode)
        input = random_input(name, SHAPES[dims])
        before = input.clone()
        state = {key: value.clone() for key, value in layer.state_dict().items()}
        layer(input)
        assert torch.equal(input, before)
        assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())
