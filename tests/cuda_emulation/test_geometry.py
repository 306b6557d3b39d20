"""How the CUDA kernels share the work out: tiles of a grid, and divisions."""

from __future__ import annotations

import emulated
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(not emulated.can_build(), reason="no C++ compiler here")


@settings(deadline=None)
@given(
    # Channels, columns, rows, depth and images.
    counts=st.tuples(*[st.integers(1, most) for most in (70, 20, 12, 9, 3)]),
    total=st.integers(0, 10),
    channel_bits=st.integers(0, 7),
    halo=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_every_item_of_a_grid_is_visited_once(counts, total, channel_bits, halo):
    bits = torch.zeros(5, dtype=torch.int32)
    times = torch.ops.softpool_emulation.visits(bits, counts, total, channel_bits, halo)
    assert bits.min() >= 0
    assert bits.sum() <= total
    assert (times == 1).all()


@pytest.mark.parametrize(
    ("counts", "blocks"), [((2**16, 2**16, 1, 1, 1), 2**32), ((0, 4, 1, 1, 1), 0)]
)
def test_a_grid_that_no_launch_has_is_refused(counts, blocks):
    bits = torch.zeros(5, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=f"this input would need {blocks}"):
        torch.ops.softpool_emulation.visits(bits, counts, 0, 0, (0, 0, 0))


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
