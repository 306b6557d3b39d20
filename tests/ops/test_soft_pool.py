"""Values and gradients of the operator on finite and other numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import BETAS, DTYPES, EXAMPLES, POOLS, SHAPES, STEM_WINDOWS, cases, to_layout
from emulation import slowly_emulated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import soft_pool_gradient_oracle, soft_pool_oracle

from softpool_det.ops import soft_pool2d, soft_pool3d
from softpool_det.ops._arguments import make_window
from softpool_det.ops._reference import soft_pool_reference

NAN, INF = float("nan"), float("inf")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(case=st.sampled_from([1, 2, 2, 3]).flatmap(cases))
def test_random_cases_equal_the_oracle(device, case):
    input, grad_output = case.tensors(device)
    betas = case.betas()
    beta = case.beta
    if beta is None:
        beta = torch.from_numpy(betas).to(device, torch.float32).requires_grad_()
    output = POOLS[case.dims](
        input, *case.window, case.ceil_mode, gradient=case.gradient, beta=beta
    )
    leaves = [input] if case.beta is not None else [input, beta]
    grads = torch.autograd.grad(output, leaves, grad_output)

    if case.beta is None:
        betas = betas.astype(np.float32).astype(float)
    values = input.detach().double().cpu().numpy()
    expected = soft_pool_oracle(values, case.out_shape(), case.window, betas)
    upstream = grad_output.double().cpu().numpy()
    expected_grads = soft_pool_gradient_oracle(upstream, values, case.window, case.gradient, betas)

    # One rounding to the tensor's type, and a few in the type that is computed in. The oracle
    # rounds as well. Weights are as accurate as if every input had been rounded once more, by
    # eps * |x|; the exact gradient passes that on. Where |beta * x| is above 45, maxima are
    # subtracted, and the elements further below have no weight.
    rounding = torch.finfo(case.dtype).eps
    computing = max(min(rounding, torch.finfo(torch.float32).eps), 1e-14)
    largest, steepest = np.abs(values).max(), np.abs(upstream).max()
    exponent = min(largest * min(betas.max(), 1e6), 45)
    reach = np.minimum(largest, 45 / np.maximum(betas, 1e-6))
    of_beta = np.abs(upstream).sum(tuple({*range(upstream.ndim)} - {1})) * reach**2
    for actual, wanted, size, eps in zip(
        (output, *grads),
        (expected, *expected_grads),
        (largest, steepest * (1 + exponent / 8), of_beta),
        (rounding, rounding, torch.finfo(torch.float32).eps),
        strict=False,
    ):
        error = np.abs(actual.detach().double().cpu().numpy() - wanted)
        assert_within(error, wanted, 16 * computing * (1 + size), eps)


def assert_within(error, wanted, absolute, relative):
    infinite = np.isinf(wanted)
    assert (np.isnan(error) == infinite).all()  # inf - inf
    allowed = absolute + relative * np.abs(wanted)
    assert (error <= allowed)[~infinite].all(), np.nanmax(error / allowed)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_windows_wholly_in_the_padding_give_minus_infinity(device, gradient, ceil_mode):
    # Taps at -1 and 2 of two inputs.
    input = torch.randn(1, 3, 2, 2, device=device, requires_grad=True)
    output = soft_pool2d(input, 2, 1, 1, 3, ceil_mode, gradient=gradient)
    assert (output == -INF).all()
    (grad_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
    assert (grad_input == 0).all()


def pool_by_operator(dims, input, *arguments, gradient="paper", beta=1.0):
    return POOLS[dims](input, *arguments, gradient=gradient, beta=beta)


def pool_by_reference(dims, input, kernel, stride=None, padding=0, *, gradient="paper", beta=1.0):
    flat = max(dims, 2)
    numbers = make_window(flat, kernel, stride, padding, 1, False)
    if dims == 1:
        for values, neutral in zip(numbers[:4], (1, 1, 0, 1), strict=True):
            values[0] = neutral
        input = input.unsqueeze(2)
    settings = (gradient == "exact", beta, None, None, None)
    output = soft_pool_reference(input, *numbers, *settings)
    return output.squeeze(2) if dims == 1 else output


implementations = pytest.mark.parametrize("pool", [pool_by_operator, pool_by_reference])


def in_two_columns(window, dims, device, dtype):
    """(1, 2, 2, 4)-like input: the window's four values to the left, zeros to the right.

    In one dimension it is windows of four, in three the values stand in the plane of depth 0 with
    those of -inf behind: they never count beside others.
    """
    values = torch.tensor(window, dtype=dtype, device=device)
    if dims == 1:
        return torch.cat([values, torch.zeros_like(values)]).expand(1, 2, 8).clone(), 4
    plane = torch.cat([values.reshape(2, 2), torch.zeros_like(values).reshape(2, 2)], 1)
    if dims == 2:
        return plane.expand(1, 2, 2, 4).clone(), 2
    return torch.stack([plane, torch.full_like(plane, -INF)]).expand(1, 2, 2, 2, 4).clone(), 2


# Windows, and their results.
NOT_FINITE = [
    ([1.0, NAN, 2.0, 3.0], NAN),
    ([-INF, NAN, -INF, -INF], NAN),
    ([INF, NAN, 2.0, 3.0], NAN),
    ([-INF, 4.0, -INF, -INF], 4.0),
    ([-INF, 4.0, 4.0, -INF], 4.0),
    ([-INF] * 4, -INF),
    ([INF, 1.0, -INF, 2.0], INF),
    ([INF] * 4, INF),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("window", "expected"), NOT_FINITE)
@implementations
def test_values_that_are_not_finite(device, channels_last, dims, dtype, window, expected, pool):
    input, kernel = in_two_columns(window, dims, device, dtype)
    for beta in BETAS:
        output = pool(dims, to_layout(input, channels_last), kernel, beta=beta)
        wanted = torch.tensor([expected, 0.0], dtype=dtype, device=device).expand_as(output)
        torch.testing.assert_close(output, wanted, equal_nan=True)


@pytest.mark.parametrize("beta", [1.0, 0.0, INF])
@implementations
def test_minus_infinity_has_no_weight_and_no_gradient(
    device, channels_last, dims, gradient, pool, beta
):
    input, kernel = in_two_columns([-INF, 4.0, 4.0, -INF], dims, device, torch.float32)
    input = to_layout(input, channels_last).requires_grad_()
    output = pool(dims, input, kernel, gradient=gradient, beta=beta)
    (grad_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
    expected = torch.where(input == 4.0, 0.5, torch.where(input == 0.0, 0.25, 0.0))
    torch.testing.assert_close(grad_input, expected)


@pytest.mark.parametrize("beta", [1.0, 0.0, INF])
def test_infinity_has_the_weight_one_among_finite_values(device, dims, gradient, beta):
    input, kernel = in_two_columns([1.0, INF, INF, 2.0], dims, device, torch.float32)
    input.requires_grad_()
    output = POOLS[dims](input, kernel, gradient=gradient, beta=beta)
    (grad_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
    expected = torch.where(input == INF, 0.5, torch.where(input == 0.0, 0.25, 0.0))
    torch.testing.assert_close(grad_input, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 1])
@implementations
def test_finite_input_stays_finite(device, channels_last, dims, dtype, gradient, padding, pool):
    largest = torch.finfo(dtype).max
    input = torch.full((1, 2, *[6] * dims), largest, dtype=dtype, device=device)
    input[:, :, ::4] = -largest
    input[..., 3:] = -largest
    input = to_layout(input, channels_last).requires_grad_()
    output = pool(dims, input, 3, 2, padding, gradient=gradient)
    output.sum().backward()
    assert output.isfinite().all()
    assert input.grad.isfinite().all()
    assert (output.abs() == largest).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -40.0, 1000.0])
def test_equal_values_stay_what_they_are(device, channels_last, dims, value):
    input = to_layout(torch.full((1, 3, *[9] * dims), value, device=device), channels_last)
    output = POOLS[dims](input, 3, 2, 1)
    torch.testing.assert_close(output, torch.full_like(output, value), rtol=1e-6, atol=0)


@slowly_emulated
@pytest.mark.parametrize("window", STEM_WINDOWS)
def test_large_results_are_those_of_their_parts(device, channels_last, gradient, window):
    """Results that are written past the caches, of 16 MiB and more, have the bits of small ones."""
    input = to_layout(torch.randn(8, 32, 264, 268, device=device), channels_last)
    upstream = to_layout(torch.randn(8, 32, 132, 134, device=device), channels_last)

    def both(input, upstream):
        input = input.detach().requires_grad_()
        output = soft_pool2d(input, *window, gradient=gradient)
        return output, *torch.autograd.grad(output, input, upstream)

    results = both(input, upstream)
    for image in range(8):
        part = slice(image, image + 1)
        for whole, single in zip(results, both(input[part], upstream[part]), strict=True):
            assert torch.equal(whole[part], single)


@pytest.mark.parametrize("window", STEM_WINDOWS)
def test_one_channel_in_long_rows(device, window, gradient):
    """Of one channel, channels_last is contiguous under another name."""
    results = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        torch.manual_seed(0)
        input = torch.empty(1, 1, 16, 4101, device=device, memory_format=memory_format)
        input.normal_().requires_grad_()
        output = soft_pool2d(input, *window, gradient=gradient)
        results.append((output, *torch.autograd.grad(output.square().sum(), input)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("window", [(3, 2, 1), (3, 1, 1)])
def test_rows_longer_than_a_tile(window, gradient):
    """Tiles hold 4096 windows of a row at most, and neighbours share a column."""
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        input = torch.randn(1, 2, 4, 8301).to(dtype).requires_grad_()
        output = soft_pool2d(input, *window, gradient=gradient)
        results.append((output.double(), torch.autograd.grad(output.sum(), input)[0].double()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upstream", [1e-26, 1e18, 1e20, 1e30])
@pytest.mark.parametrize("value", [-44.0, -40.0, 40.0, 44.0])
@pytest.mark.parametrize("window", [*STEM_WINDOWS, (3, 1, 1)])
def test_gradients_far_from_one(device, channels_last, window, value, upstream, gradient):
    results = []
    for dtype in (torch.float32, torch.float64):
        input = to_layout(
            torch.full((1, 16, 20, 40), value, dtype=dtype, device=device), channels_last
        )
        input[:, :, ::3, ::3] += 0.5
        input.requires_grad_()
        output = soft_pool2d(input, *window, gradient=gradient)
        results += torch.autograd.grad(output, input, torch.full_like(output, upstream))
    torch.testing.assert_close(results[0].double(), results[1], rtol=1e-4, atol=1e-4 * upstream)
    assert (results[0] != 0).any()


@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("stride", [2, 3, 7])
@pytest.mark.parametrize("depth", [2, 3, 6])
def test_depth_that_windows_step_over(device, channels_last, depth, stride, gradient):
    """The stock stem's windows in slices of depth, of which no window holds some.

    In float32, for float64 takes the general kernels.
    """
    window = ((1, 3, 3), (stride, 2, 2), (0, 1, 1), (1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(1, 3, depth, 8, 9, generator=generator)
    leaf = to_layout(input.clone(), channels_last).to(device).requires_grad_()
    output = soft_pool3d(leaf, *window[:3], gradient=gradient)
    upstream = torch.randn(output.shape, generator=generator)
    output.backward(upstream.to(device))
    expected, _ = soft_pool_gradient_oracle(
        upstream.double().numpy(), input.double().numpy(), window, gradient
    )
    np.testing.assert_allclose(leaf.grad.cpu().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [7, 56])
def test_one_window_over_everything(device, channels_last, size, gradient):
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        input = to_layout(torch.randn(2, 5, size, size, device=device).to(dtype), channels_last)
        output = soft_pool2d(input.requires_grad_(), size, gradient=gradient)
        results.append((output.double(), torch.autograd.grad(output.sum(), input)[0].double()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_nan_reaches_the_gradient_of_the_reference(gradient):
    input = torch.tensor([1.0, NAN, 2.0, 3.0]).reshape(1, 1, 2, 2).requires_grad_()
    output = pool_by_reference(2, input, 2, gradient=gradient)
    assert torch.autograd.grad(output.sum(), input)[0].isnan().all()


LARGE = {1: (2, 40, 4001), 2: (2, 40, 65, 67), 3: (2, 40, 9, 21, 23)}


def output_and_gradient(dims, input):
    output = POOLS[dims](input, 3, 2, 1, gradient="exact")
    return output, *torch.autograd.grad(output.square().sum(), input)


def test_bits_do_not_depend_on_the_number_of_threads(channels_last, dims):
    input = to_layout(torch.randn(LARGE[dims]), channels_last).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(output_and_gradient(dims, input))
    finally:
        torch.set_num_threads(threads)
    for output, grad_input in results[1:]:
        assert torch.equal(output, results[0][0])
        assert torch.equal(grad_input, results[0][1])


def test_runs_are_bit_identical(device, channels_last, dims):
    input = to_layout(torch.randn(LARGE[dims], device=device), channels_last).requires_grad_()
    first, second = (output_and_gradient(dims, input) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_reference_equals_the_operator(device, channels_last, dims, gradient):
    input = to_layout(torch.randn(SHAPES[dims], device=device), channels_last).requires_grad_()
    results = []
    for pool in (pool_by_operator, pool_by_reference):
        output = pool(dims, input, 3, 2, 1, gradient=gradient)
        (grad_input,) = torch.autograd.grad(output.square().sum(), input)
        assert output.stride() == POOLS[dims](input, 3, 2, 1).stride()
        results.append((output, grad_input))
    torch.testing.assert_close(results[0], results[1])


def available_memory() -> int:
    """Bytes that can be had without swapping; 0 where it is not known."""
    try:
        with open("/proc/meminfo") as lines:
            amounts = dict(line.split(":") for line in lines)
        return int(amounts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


@pytest.mark.slow
def test_more_than_2_to_the_31_elements(device):
    needed = 7 * 2**30
    free = available_memory() if device == "cpu" else torch.cuda.mem_get_info()[0]
    if free < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of memory, {free / 2**30:.1f} are free")
    input = torch.zeros(1, 1, 2**16, 2**15 + 64, dtype=torch.bfloat16, device=device)
    assert input.numel() > 2**31
    input[..., -4:, -64:].normal_()
    output = soft_pool2d(input, 2)
    assert output.shape == (1, 1, 2**15, 2**14 + 32)
    assert torch.equal(output[..., -2:, -32:], soft_pool2d(input[..., -4:, -64:], 2))
    assert not output[..., -64:-2, :].any()
