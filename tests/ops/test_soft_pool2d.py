"""Values and gradients of the compiled operator."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle import soft_pool2d_gradient_oracle, soft_pool2d_oracle

from softpool_det.ops import soft_pool2d
from softpool_det.ops._reference import soft_pool2d_reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# tools/gpu_check.sh lowers it where every case is slow.
EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "600"))


@dataclass
class Case:
    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    gradient: str
    dtype: torch.dtype
    channels_last: bool
    scale: float
    whole_numbers: bool  # makes ties
    seed: int

    def tensors(self, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Input that requires a gradient, and the gradient of the output."""
        generator = np.random.default_rng(self.seed)
        values = generator.uniform(-self.scale, self.scale, self.shape)
        if self.whole_numbers:
            values = values.round()
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        input = torch.from_numpy(values).to(device, self.dtype, memory_format=memory_format)
        grad_output = generator.standard_normal((*self.shape[:2], *self.out_shape()))
        return input.requires_grad_(), torch.from_numpy(grad_output).to(device, self.dtype)

    def out_shape(self) -> torch.Size:
        arguments = (self.kernel, self.stride, self.padding)
        output = F.max_pool2d(torch.empty(1, 1, *self.shape[2:]), *arguments, 1, self.ceil_mode)
        return output.shape[2:]


@st.composite
def cases(draw) -> Case:
    small = st.integers(1, 20)
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(small), draw(small))
    # Longer than what the CPU kernel takes in one go, as columns or as channels.
    shape = draw(st.sampled_from([shape, shape, shape, (1, 2, shape[2] % 5 + 1, 280)]))
    shape = draw(st.sampled_from([shape, shape, shape, (1, 150, *shape[2:])]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    ceil_mode = draw(st.booleans())
    assume(all(n + 2 * p >= k for n, k, p in zip(shape[2:], kernel, padding, strict=True)))
    return Case(
        shape,
        kernel,
        draw(st.tuples(st.integers(1, 7), st.integers(1, 7))),
        padding,
        ceil_mode,
        draw(st.sampled_from(["paper", "exact"])),
        draw(st.sampled_from(DTYPES)),
        draw(st.booleans()),
        draw(st.sampled_from([1.0, 8.0, 80.0])),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(case=cases())
def test_random_cases_equal_the_oracle(device, case):
    input, grad_output = case.tensors(device)
    output = soft_pool2d(
        input, case.kernel, case.stride, case.padding, case.ceil_mode, gradient=case.gradient
    )
    (grad_input,) = torch.autograd.grad(output, input, grad_output)

    values = input.detach().double().cpu().numpy()
    windows = (case.kernel, case.stride, case.padding)
    expected = soft_pool2d_oracle(values, case.out_shape(), *windows)
    upstream = grad_output.double().cpu().numpy()
    expected_grad = soft_pool2d_gradient_oracle(upstream, values, *windows, case.gradient)

    # One rounding to the tensor's type, and a few in the type that is computed in. The oracle
    # rounds as well.
    rounding = torch.finfo(case.dtype).eps
    computing = max(min(rounding, torch.finfo(torch.float32).eps), 1e-14)
    tolerance = {"rtol": rounding, "check_device": False, "check_dtype": False}
    for actual, wanted, size in (
        (output, expected, np.abs(values).max()),
        (grad_input, expected_grad, np.abs(upstream).max()),
    ):
        torch.testing.assert_close(
            actual.double(),
            torch.from_numpy(wanted),
            atol=16 * computing * (1 + size),
            **tolerance,
        )
    assert output.dtype == grad_input.dtype == case.dtype
    assert grad_input.stride() == input.stride()


@pytest.mark.parametrize("arguments", [(2, 2, 0, True), (3, 2, 1, False), ((3, 2), (1, 3), (1, 0))])
def test_gradcheck_of_exact(device, memory_format, arguments):
    input = torch.randn(2, 3, 7, 8, dtype=torch.float64, device=device)
    input = input.contiguous(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: soft_pool2d(x, *arguments, gradient="exact"), (input,), fast_mode=True
    )


def test_paper_gradient_is_upstream_times_weight(device, memory_format):
    input = torch.randn(2, 3, 6, 8, dtype=torch.float64, device=device)
    input = input.contiguous(memory_format=memory_format).requires_grad_()
    grad_output = torch.randn(2, 3, 3, 4, dtype=torch.float64, device=device)
    (actual,) = torch.autograd.grad(soft_pool2d(input, 2), input, grad_output)
    windows = input.detach().reshape(2, 3, 3, 2, 4, 2).transpose(3, 4).flatten(-2)
    expected = windows.softmax(-1) * grad_output[..., None]
    expected = expected.unflatten(-1, (2, 2)).transpose(3, 4).reshape(2, 3, 6, 8)
    torch.testing.assert_close(actual, expected)


def reference(input, kernel, stride=None, padding=0, *, gradient="paper"):
    arguments = ([kernel] * 2, [stride or kernel] * 2, [padding] * 2, False)
    return soft_pool2d_reference(input, *arguments, gradient=gradient)


implementations = pytest.mark.parametrize("pool", [soft_pool2d, reference])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ([1.0, float("nan"), 2.0, 3.0], float("nan")),
        ([float("-inf"), float("nan"), float("-inf"), float("-inf")], float("nan")),
        ([float("inf"), float("nan"), 2.0, 3.0], float("nan")),
        ([float("-inf"), 4.0, float("-inf"), float("-inf")], 4.0),
        ([float("-inf"), 4.0, 4.0, float("-inf")], 4.0),
        ([float("-inf")] * 4, float("-inf")),
        ([float("inf"), 1.0, float("-inf"), 2.0], float("inf")),
        ([float("inf")] * 4, float("inf")),
    ],
)
@implementations
def test_values_that_are_not_finite(device, memory_format, dtype, window, expected, pool):
    input = torch.zeros(1, 2, 2, 4, dtype=dtype, device=device)
    input[:, :, :, :2] = torch.tensor(window).reshape(2, 2)
    output = pool(input.contiguous(memory_format=memory_format), 2)
    wanted = torch.tensor([expected, 0.0], dtype=dtype, device=device).expand(1, 2, 1, 2)
    torch.testing.assert_close(output, wanted, equal_nan=True)


@pytest.mark.parametrize("gradient", ["paper", "exact"])
@implementations
def test_minus_infinity_has_no_weight_and_no_gradient(device, memory_format, gradient, pool):
    window = [[float("-inf"), 4.0, float("-inf"), float("-inf")]]
    input = torch.tensor(window * 2, device=device).expand(1, 2, 2, 4)
    input = input.contiguous(memory_format=memory_format).requires_grad_()
    pool(input, 2, gradient=gradient).backward(torch.ones(1, 2, 1, 2, device=device))
    torch.testing.assert_close(input.grad, (input == 4.0) * 0.5)


@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 1])
@implementations
def test_finite_input_stays_finite(device, memory_format, dtype, gradient, padding, pool):
    largest = torch.finfo(dtype).max
    input = torch.full((1, 2, 6, 6), largest, dtype=dtype, device=device)
    input[:, :, ::4] = -largest
    input[:, :, 3:, 3:] = -largest
    input = input.contiguous(memory_format=memory_format).requires_grad_()
    output = pool(input, 3, 2, padding, gradient=gradient)
    output.sum().backward()
    assert output.isfinite().all()
    assert input.grad.isfinite().all()
    assert (output.abs() == largest).all()


def test_equal_values_are_returned_as_they_are(device, memory_format):
    input = torch.full((1, 3, 9, 9), 0.1, device=device).contiguous(memory_format=memory_format)
    assert (soft_pool2d(input, 3, 2, 1) == input[0, 0, 0, 0]).all()


def test_bits_do_not_depend_on_the_number_of_threads(memory_format):
    input = torch.randn(2, 40, 65, 67).contiguous(memory_format=memory_format).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            output = soft_pool2d(input, 3, 2, 1, gradient="exact")
            results.append((output, *torch.autograd.grad(output.square().sum(), input)))
    finally:
        torch.set_num_threads(threads)
    for output, grad_input in results[1:]:
        assert torch.equal(output, results[0][0])
        assert torch.equal(grad_input, results[0][1])


def test_runs_are_bit_identical(device, memory_format):
    input = torch.randn(2, 40, 65, 67, device=device).contiguous(memory_format=memory_format)
    input.requires_grad_()
    first, second = (
        torch.autograd.grad(soft_pool2d(input, 3, 2, 1).square().sum(), input)[0] for _ in range(2)
    )
    assert torch.equal(first, second)
