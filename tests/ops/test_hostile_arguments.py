"""torch.ops called directly with what a caller must not give: a RuntimeError, or the right result.

Never a crash, another error, or time and memory that grow with a number instead of with tensors.
`make sanitize` runs this under AddressSanitizer, `make fuzz` looks for more.
"""

from __future__ import annotations

import os

import pytest
import torch
from cases import to_layout
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oracle import soft_pool_gradient_oracle, soft_pool_oracle

from softpool_det.ops import _library

EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "300"))
ONES = [1, 1]
STEM = ([3, 3], [2, 2], ONES, ONES, False)
HUGE = [-(2**63), -1, 0, 2**16, 2**30, 2**31 - 2, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1]
pytestmark = pytest.mark.timeout(300)


def forward(input, *arguments):
    return kernels(input).soft_pool(input, *arguments)


def backward(grad_output, input, *arguments):
    """The input's gradient alone."""
    return kernels(grad_output, input).soft_pool_backward(grad_output, input, *arguments)[0]


def fused(input, scale, bias, *window):
    return forward(input, *window, False, 1.0, None, scale, bias)


def fused_backward(grad_output, input, scale, bias, *window_and_exact):
    return backward(grad_output, input, *window_and_exact, 1.0, None, scale, bias)


def kernels(*tensors):
    """Those of the test's device; the emulator has none for tensors without values."""
    values = all(tensor.device.type != "meta" for tensor in tensors)
    return _library.kernels() if values else torch.ops.softpool_det


@pytest.fixture(params=["values", "meta"])
def where(request, device):
    """Tensors with values, and without any, which fake kernels take."""
    return device if request.param == "values" else "meta"


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 5, 6])
def test_ranks(where, rank):
    input = torch.zeros([2] * rank, device=where)
    grad_output = torch.zeros(1, 1, 2, 2, device=where)
    ones = torch.ones(2, device=where)
    for call in (
        lambda: forward(input, *STEM),
        lambda: backward(grad_output, input, *STEM, True),
        lambda: backward(input, torch.zeros(1, 1, 4, 4, device=where), *STEM, True),
        lambda: fused(input, ones, ones, *STEM),
        lambda: fused_backward(grad_output, input, ones, ones, *STEM, False),
    ):
        with pytest.raises(RuntimeError, match="soft_pool"):
            call()


@pytest.mark.parametrize(
    "lengths", [(0, 0, 0, 0), (1, 1, 1, 1), (4, 4, 4, 4), (2, 2, 2, 1), (2, 3, 2, 2)]
)
def test_numbers_of_numbers(where, lengths):
    input = torch.zeros(1, 1, 4, 4, device=where)
    windows = [[value] * length for value, length in zip((2, 2, 0, 1), lengths, strict=True)]
    with pytest.raises(RuntimeError, match="elements"):
        forward(input, *windows, False)


@pytest.mark.parametrize("batch", [0, 1])
def test_no_channels(where, batch):
    input = torch.zeros(batch, 0, 4, 4, device=where)
    with pytest.raises(RuntimeError, match="at least one channel"):
        forward(input, *STEM)
    with pytest.raises(RuntimeError, match="at least one channel"):
        backward(input[..., :2, :2], input, *STEM, True)


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("argument", range(4))
def test_numbers_out_of_range(where, argument, number):
    """Of kernel_size, stride, padding, dilation. A stride may be larger than all, so some pass."""
    input = torch.zeros(1, 1, 4, 4, device=where)
    windows = [[3, 3], [2, 2], [1, 1], [1, 1]]
    windows[argument][1] = number
    right = (argument == 1 and 0 < number < 2**31) or (argument == 2 and number == 0)
    if right:
        assert forward(input, *windows, False).numel() > 0
    else:
        with pytest.raises(RuntimeError, match=r"soft_pool"):
            forward(input, *windows, False)
        with pytest.raises(RuntimeError, match=r"soft_pool"):
            backward(input, input, *windows, False, True)


@pytest.mark.parametrize("kernel", [101, 2**31 - 1])
def test_windows_far_larger_than_the_input(device, channels_last, kernel, gradient):
    """They cost what the input costs, not what their taps in the padding would."""
    values = torch.randn(1, 3, 5, 7, dtype=torch.float64, device=device)
    input = to_layout(values, channels_last)
    window = ([kernel] * 2, [2] * 2, [kernel // 2] * 2, ONES)
    # Every window holds all of the input, as those of 25 do.
    same = ([25] * 2, [2] * 2, [12] * 2, ONES)
    output = forward(input, *window, False)
    upstream = torch.randn_like(output)
    grad_input = backward(upstream, input, *window, False, gradient == "exact")
    numbers = values.cpu().numpy()
    expected = soft_pool_oracle(numbers, output.shape[2:], same)
    torch.testing.assert_close(output.cpu().contiguous(), torch.from_numpy(expected))
    expected, _ = soft_pool_gradient_oracle(upstream.cpu().numpy(), numbers, same, gradient)
    torch.testing.assert_close(grad_input.cpu().contiguous(), torch.from_numpy(expected))


@pytest.mark.parametrize("sizes", [(0, 1, 2**61, 4), (0, 2**61, 4, 4), (0, 1, 2**31, 2**31)])
def test_sizes_that_overflow(device, sizes):
    """An empty batch has room for all of them; their product has not."""
    input = torch.zeros(1, device=device).as_strided(sizes, (1, 1, 1, 1))
    with pytest.raises(RuntimeError, match="larg"):
        forward(input, *STEM)
    with pytest.raises(RuntimeError, match="larg"):
        backward(input, input, *STEM, True)


def test_strides_that_overflow(device):
    """Strides of an empty tensor mean nothing, whatever they are."""
    input = torch.zeros(1, device=device).as_strided((0, 3, 4, 4), (1, 2**62, 2**62, 2**62))
    assert forward(input, *STEM).shape == (0, 3, 2, 2)
    assert backward(torch.zeros(0, 3, 2, 2, device=device), input, *STEM, True).shape == input.shape


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_types(where, dtype):
    input = torch.zeros((1, 1, 4, 4), dtype=dtype, device=where)
    floats = torch.zeros((1, 1, 4, 4), device=where)
    ones = torch.ones(1, device=where)
    for call in (
        lambda: forward(input, *STEM),
        lambda: backward(input, input, *STEM, False),
        lambda: fused(input, ones, ones, *STEM),
        lambda: fused(floats, ones.to(dtype), ones, *STEM),
        lambda: forward(floats, *STEM, False, 1.0, ones.to(dtype)),
        lambda: forward(floats, *STEM, False, 1.0, ones.double()),
        lambda: backward(torch.zeros_like(input)[..., :2, :2], floats, *STEM, False),
    ):
        with pytest.raises(RuntimeError, match="soft_pool"):
            call()


@pytest.mark.parametrize(
    "shape", [(1, 1, 4, 4), (1, 1, 2, 1), (2, 1, 2, 2), (1, 1, 2), (0, 1, 2, 2)]
)
def test_gradients_of_another_shape(where, shape):
    input = torch.zeros(1, 1, 4, 4, device=where)
    ones = torch.ones(1, device=where)
    grad_output = torch.zeros(shape, device=where)
    with pytest.raises(RuntimeError, match=r"grad_output must have the output's shape"):
        backward(grad_output, input, *STEM, False)
    with pytest.raises(RuntimeError, match=r"grad_output must have the output's shape"):
        fused_backward(grad_output, input, ones, ones, *STEM, False)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1), (0,)])
def test_parameters_of_another_shape(where, shape):
    input = torch.zeros(1, 2, 4, 4, device=where)
    good, bad = torch.ones(2, device=where), torch.ones(shape, device=where)
    for name, tensors in (
        ("betas", (bad, None, None)),
        ("scale", (good, bad, good)),
        ("bias", (None, good, bad)),
    ):
        with pytest.raises(
            RuntimeError, match=f"{name} must have one element for each of the 2 ch"
        ):
            forward(input, *STEM, False, 1.0, *tensors)


@pytest.mark.parametrize("beta", [-1.0, -1e-30, float("-inf"), float("nan")])
def test_temperatures_below_zero(where, beta):
    input = torch.zeros(1, 2, 4, 4, device=where)
    with pytest.raises(RuntimeError, match="soft_pool: beta must be at least 0, got"):
        forward(input, *STEM, False, beta)
    with pytest.raises(RuntimeError, match="soft_pool: beta must be at least 0, got"):
        backward(input[..., :2, :2], input, *STEM, True, beta)


def test_one_of_scale_and_bias(where):
    input, ones = torch.zeros(1, 2, 4, 4, device=where), torch.ones(2, device=where)
    for scales in ((ones, None), (None, ones)):
        with pytest.raises(RuntimeError, match="scale and bias must be given both, or neither"):
            forward(input, *STEM, False, 1.0, None, *scales)


def test_mixed_devices(device):
    """The CPU's and meta tensors; with a GPU, its and the CPU's."""
    others = ["meta"] if device == "cpu" else ["meta", "cpu"]
    input = torch.zeros(1, 2, 4, 4, device=device)
    grad_output, ones = torch.zeros(1, 2, 2, 2, device=device), torch.ones(2, device=device)
    for other in others:
        for call in (
            lambda other=other: backward(grad_output.to(other), input, *STEM, False),
            lambda other=other: backward(grad_output, input.to(other), *STEM, False),
            lambda other=other: fused(input, ones.to(other), ones, *STEM),
            lambda other=other: fused(input, ones, ones.to(other), *STEM),
            lambda other=other: forward(input, *STEM, False, 1.0, ones.to(other)),
            lambda other=other: fused(input.to(other), ones, ones, *STEM),
            lambda other=other: fused_backward(
                grad_output, input, ones, ones.to(other), *STEM, True
            ),
        ):
            with pytest.raises(RuntimeError, match=r"device|on "):
                call()


def test_layouts_that_are_no_strides():
    """Sparse and quantized tensors have no kernel."""
    dense = torch.zeros(1, 1, 4, 4)
    for input in (dense.to_sparse(), torch.quantize_per_tensor(dense, 1.0, 0, torch.quint8)):
        with pytest.raises(RuntimeError):
            forward(input, *STEM)


def cut(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """With a storage of `size` bytes under it, as it may be after somebody resized it."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(size)
    return tensor


@pytest.mark.parametrize("size", [0, 1, 63])
def test_storage_that_was_resized(device, size):
    input = torch.zeros(1, 1, 4, 4, device=device)
    ones = torch.ones(1, device=device)
    for call in (
        lambda: forward(cut(input, size), *STEM),
        lambda: backward(input[..., :2, :2], cut(input, size), *STEM, False),
        lambda: backward(cut(input[..., :2, :2].clone(), size // 5), input, *STEM, False),
        lambda: fused(input, cut(ones, size // 21), ones, *STEM),
        lambda: forward(input, *STEM, False, 1.0, cut(ones, size // 21)),
    ):
        with pytest.raises(RuntimeError, match=r"needs \d+ bytes of memory"):
            call()


def test_memory_that_is_shared(device, channels_last):
    """Operands that are one tensor, elements that are one number: as if each had its own."""
    input = to_layout(torch.randn(2, 2, 4, 4, device=device), channels_last)
    window = ([1, 1], ONES, [0, 0], ONES, False)
    torch.testing.assert_close(backward(input, input, *window, False), input)
    one = torch.randn(1, device=device).expand(2, 2, 4, 4)
    torch.testing.assert_close(forward(one, *STEM), one[..., :2, :2])
    grad_input = backward(one[..., :2, :2], one, *STEM, True)
    torch.testing.assert_close(
        grad_input, backward(one[..., :2, :2].contiguous(), one.contiguous(), *STEM, True)
    )
    scale = input[0, :, 0, 0]
    torch.testing.assert_close(
        fused(input, scale, scale, *STEM), fused(input, scale.clone(), scale.clone(), *STEM)
    )


numbers = st.integers(-1, 5) | st.sampled_from(HUGE)
good_numbers = st.integers(1, 3)


@st.composite
def calls(draw):
    """Input, the gradient of an output, and a window: any of them may be wrong, most are not."""
    dims = draw(st.sampled_from([2, 2, 3]))
    shape = draw(
        st.tuples(*[st.integers(1, 6)] * (dims + 2)) | st.lists(st.integers(0, 6), max_size=6)
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int32]))
    input = torch.zeros(shape, dtype=dtype)
    if input.dim() > 2 and draw(st.booleans()):
        input = to_layout(input, True)
    good = st.lists(good_numbers, min_size=dims, max_size=dims)
    window = [draw(good | good | st.lists(numbers, min_size=dims, max_size=dims)) for _ in range(4)]
    # Half of a huge kernel is a padding that passes.
    window[2] = draw(st.just([kernel // 2 for kernel in window[0]]) | st.just(window[2]))
    lengths = draw(st.just((dims,) * 4) | st.tuples(*[st.integers(0, 4)] * 4))
    window = [(values * 4)[:length] for values, length in zip(window, lengths, strict=True)]
    grad_shape = draw(st.none() | st.lists(st.integers(0, 6), max_size=6))
    return input, grad_shape, window, draw(st.booleans()), draw(st.booleans())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(call=calls())
@example(
    call=(
        torch.zeros(0, 1, 0, 0, 1),
        None,
        [[2, 2, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]],
        False,
        False,
    )
)
def test_any_call_is_refused_or_right(call):
    """Right: shapes and zeros of zeros. The fake kernels and the real ones agree on which it is."""
    input, grad_shape, window, ceil_mode, exact = call
    refused = (RuntimeError, None)
    outcomes = []
    for tensor in (input, input.to("meta")):
        try:
            output = forward(tensor, *window, ceil_mode)
        except RuntimeError:
            outcomes.append(refused)
            continue
        outcomes.append((output.shape, output.stride()))
        assert output.dtype == input.dtype
    assert outcomes[0] == outcomes[1]
    shape = outcomes[0][0] if grad_shape is None and outcomes[0] != refused else grad_shape or ()
    grad_output = torch.zeros(shape, dtype=input.dtype)
    try:
        grad_input = backward(grad_output, input, *window, ceil_mode, exact)
    except RuntimeError:
        assert outcomes[0] == refused or tuple(shape) != outcomes[0][0]
    else:
        assert grad_input.shape == input.shape
        assert not grad_input.count_nonzero()
