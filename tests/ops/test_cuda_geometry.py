"""How the CUDA kernels share the work out: tiles of a grid, divisions, axes."""

from __future__ import annotations

import emulation
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytestmark = emulation.needs_compiler


@pytest.fixture(scope="module", autouse=True)
def library():
    emulation.load()


def visits(*arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Bits of the tiles, and how often threads come to each item of the grid."""
    bits = torch.zeros(5, dtype=torch.int32)
    return bits, torch.ops.softpool_emulation.visits(bits, *arguments)


@settings(deadline=None)
@given(
    # Channels, columns, rows, depth and images.
    counts=st.tuples(*[st.integers(1, most) for most in (70, 20, 12, 9, 3)]),
    total=st.integers(0, 10),
    channel_bits=st.integers(0, 7),
    halo=st.tuples(*[st.integers(0, 3)] * 3),
    one_image=st.booleans(),
)
# Channels and columns take all bits but one, or all: none is left to be reserved for the depth.
@example((16, 8, 8, 4, 1), 8, 5, (1, 1, 1), False)  # bfloat16 (1, 64, 8, 16, 16), 3x3x3/2
@example((18, 8, 8, 4, 1), 8, 5, (1, 1, 1), False)  # float32 (1, 18, 8, 16, 16)
@example((8, 16, 16, 8, 1), 7, 4, (2, 2, 2), False)  # bfloat16 (1, 32, 8, 16, 16), 3x3x3/1
def test_every_item_of_a_grid_is_visited_once(counts, total, channel_bits, halo, one_image):
    bits, times = visits(counts, total, channel_bits, halo, one_image)
    assert bits.min() >= 0
    assert bits.sum() <= total
    assert bits[4] == 0 or not one_image
    assert (times == 1).all()


@pytest.mark.parametrize(
    ("counts", "blocks"), [((2**16, 2**16, 1, 1, 1), 2**32), ((0, 4, 1, 1, 1), 0)]
)
def test_a_grid_that_no_launch_has_is_refused(counts, blocks):
    with pytest.raises(RuntimeError, match=f"this input would need {blocks}"):
        visits(counts, 0, 0, (0, 0, 0), False)


@settings(deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**31 - 1), min_size=1),
    divisor=st.integers(1, 100) | st.integers(1, 2**31 - 1),
)
def test_quotients_are_exact(numbers, divisor):
    edges = [divisor - 1, divisor, *(n // divisor * divisor for n in numbers)]
    numbers += [*edges, *(max(0, n - 1) for n in edges)]
    quotients = torch.ops.softpool_emulation.quotients(
        torch.tensor(numbers, dtype=torch.int32), divisor
    )
    assert quotients.tolist() == [number // divisor for number in numbers]


@st.composite
def axes(draw) -> list[int]:
    """Size, kernel, stride, padding, dilation and windows."""
    kernel, dilation = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    extent = (kernel - 1) * dilation + 1
    size = draw(st.integers(max(1, extent - 2 * padding), 40))
    stride = draw(st.integers(1, 7))
    return [size, kernel, stride, padding, dilation, (size + 2 * padding - extent) // stride + 1]


@settings(deadline=None)
@given(axis=axes())
def test_axes_know_which_windows_hold_which_inputs(axis):
    size, kernel, stride, padding, dilation, windows = axis
    expected = torch.zeros(windows, size, dtype=torch.int32)
    for window in range(windows):
        for tap in range(kernel):
            index = window * stride - padding + tap * dilation
            if 0 <= index < size:
                expected[window, index] = 1
    by_taps, by_windows = torch.ops.softpool_emulation.taps(expected, axis)
    assert torch.equal(by_taps, expected)
    assert torch.equal(by_windows, expected)
