"""What the operator accepts and refuses."""

from __future__ import annotations

import pytest
import torch
from cases import DIMS, MAX_POOLS, MODULES, POOLS
from hypothesis import given, settings
from hypothesis import strategies as st

from softpool_det.ops import _library, soft_pool2d


def assert_agrees_with_max_pool(dims, shape, kernel_size, stride, padding, dilation, ceil_mode):
    """Both give the same shape, or both refuse."""
    arguments = (kernel_size, stride, padding, dilation)
    # Where an input needs a gradient, max_pool1d is max_pool2d of one row. Without one it has
    # checks of its own, which measure the padding against the dilated window.
    input = torch.zeros(shape, requires_grad=dims == 1)
    try:
        expected = MAX_POOLS[dims](input, *arguments, ceil_mode=ceil_mode).shape
    except (RuntimeError, TypeError):
        with pytest.raises((TypeError, ValueError)):
            POOLS[dims](input, *arguments, ceil_mode)
    else:
        assert POOLS[dims](input, *arguments, ceil_mode).shape == expected


def numbers(dims, low, high):
    return st.integers(low, high) | st.tuples(*[st.integers(low, high)] * dims)


@pytest.mark.parametrize("dims", DIMS)
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_shapes_are_those_of_max_pool(dims, data):
    assert_agrees_with_max_pool(
        dims,
        data.draw(st.lists(st.integers(1, 12), min_size=dims + 1, max_size=dims + 2)),
        data.draw(numbers(dims, 1, 5)),
        data.draw(st.none() | numbers(dims, 1, 7)),
        data.draw(numbers(dims, 0, 2)),
        data.draw(numbers(dims, 1, 3)),
        data.draw(st.booleans()),
    )


def any_argument(dims, low):
    return st.one_of(
        st.integers(-1, 7),
        st.lists(st.integers(low, 4), max_size=dims + 1),
        st.sampled_from([None, 1.5, (2.0, 2.0), "2"]),
    )


@pytest.mark.parametrize("dims", DIMS)
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_refuses_what_max_pool_refuses(dims, data):
    shapes = st.lists(st.integers(0, 9), min_size=1, max_size=dims + 3)
    good_shapes = st.lists(st.integers(1, 9), min_size=dims + 1, max_size=dims + 2)
    assert_agrees_with_max_pool(
        dims,
        data.draw(shapes | good_shapes),
        data.draw(st.just(2) | any_argument(dims, 0)),
        data.draw(st.just(2) | any_argument(dims, 0)),
        data.draw(st.just(0) | any_argument(dims, 0)),
        data.draw(st.just(1) | any_argument(dims, 0)),
        data.draw(st.booleans()),
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, r"kernel_size must be positive, got \(0, 0\)"),
        ({"stride": (1, 0)}, ValueError, r"stride must be positive, got \(1, 0\)"),
        ({"dilation": 0}, ValueError, r"dilation must be positive, got \(0, 0\)"),
        ({"padding": 2}, ValueError, r"padding .* half of kernel_size \(2, 2\), got \(2, 2\)"),
        ({"kernel_size": 9}, ValueError, "size 4 is too small for a window of 9"),
        ({"dilation": 4}, ValueError, "size 4 is too small for a window of 5"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an int or a pair of ints, got '3'"),
        ({"gradient": "true"}, ValueError, '"paper" or "exact", got \'true\''),
        ({"beta": -1.0}, ValueError, r"beta must be at least 0 \(infinity is allowed\), got -1.0"),
        ({"beta": float("nan")}, ValueError, "beta must be at least 0 .* got nan"),
        ({"beta": True}, TypeError, "beta must be a number or a floating-point tensor, got True"),
        ({"beta": None}, TypeError, "beta must be a number or a floating-point tensor, got None"),
        ({"beta": torch.tensor(1)}, TypeError, "floating-point tensor, got torch.int64"),
        ({"beta": torch.ones(2)}, ValueError, r"shape \(\), \(1,\) or \(3,\).* got \(2,\)"),
        ({"beta": torch.ones(1, 3)}, ValueError, r"one element for all channels.* got \(1, 3\)"),
        ({"beta": torch.ones(3, device="meta")}, ValueError, "input's device cpu, got meta"),
    ],
)
def test_errors_name_argument_value_and_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        soft_pool2d(torch.zeros(1, 3, 4, 4), **arguments)


def test_errors_name_the_shapes(dims):
    shape = {1: r"\(C, L\) or \(N, C, L\)", 2: r"\(N, C, H, W\)", 3: r"\(N, C, D, H, W\)"}[dims]
    with pytest.raises(ValueError, match=shape):
        POOLS[dims](torch.zeros(4))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_refuses_what_is_not_floating_point(device, dims, dtype):
    with pytest.raises(TypeError, match="float32"):
        POOLS[dims](torch.zeros((1, 1, *[4] * dims), dtype=dtype, device=device))


ONES = [1, 1]


@pytest.mark.parametrize(
    ("shape", "windows", "message"),
    [
        ((1, 4, 4), ([2, 2], [2, 2], [0, 0], ONES), "dimensions of batch and channels and 2 more"),
        ((1, 1, 4, 4), ([2], [2], [0], [1]), "two or three elements"),
        ((1, 1, 4, 4), ([2, 2], [2], [0, 0], ONES), "as many elements as kernel_size"),
        ((1, 0, 4, 4), ([2, 2], [2, 2], [0, 0], ONES), "channel"),
        ((1, 1, 4, 4), ([2, 2], [2, 0], [0, 0], ONES), "stride of the width must be positive"),
        ((1, 1, 4, 4), ([2, 2], [2, 2], [0, 0], [0, 1]), "dilation of the height must be positive"),
        ((1, 1, 4, 4), ([2, 2**40], [2, 2], [0, 0], ONES), "kernel_size of the width"),
        ((1, 1, 4, 4), ([2, 2], [2, 2], [2, 0], ONES), "padding of the height"),
        ((1, 1, 4, 4), ([5, 2], [2, 2], [0, 0], ONES), "input height 4 is too small"),
    ],
)
def test_kernels_check_for_themselves(device, shape, windows, message):
    input = torch.zeros(shape, device=device)
    with pytest.raises(RuntimeError, match=message):
        _library.kernels().soft_pool(input, *windows, False)
    with pytest.raises(RuntimeError, match=message):
        _library.kernels().soft_pool_backward(input, input, *windows, False, True)


def test_backward_kernel_refuses_a_gradient_of_another_shape_or_type(device):
    input = torch.zeros(1, 1, 4, 4, device=device)
    windows = ([2, 2], [2, 2], [0, 0], ONES, False, True)
    backward = _library.kernels().soft_pool_backward
    with pytest.raises(RuntimeError, match=r"\(1, 1, 2, 2\)"):
        backward(torch.zeros(1, 1, 2, 3, device=device), input, *windows)
    with pytest.raises(RuntimeError, match="dtype"):
        backward(torch.zeros(1, 1, 2, 2, device=device).double(), input, *windows)


def test_modules_take_and_show_the_arguments_of_max_pool(dims):
    pool = MODULES[dims](3, padding=1, dilation=2, ceil_mode=True)
    assert repr(pool) == (
        f"SoftPool{dims}d(kernel_size=3, stride=3, padding=1, dilation=2, ceil_mode=True, "
        "gradient='paper')"
    )
    assert not list(pool.state_dict())
    input = torch.randn(1, 2, *[9] * dims)
    assert torch.equal(pool(input), POOLS[dims](input, 3, 3, 1, 2, True))
