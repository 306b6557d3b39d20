"""Schedules of multigrid training, beside PySlowFast's and the paper's figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler

from softpool_det.classification.datasets import EpochBatches
from softpool_det.video.multigrid import Multigrid, Shape

PAPERS = Multigrid(Shape(64, 16, 256), (40, 80), 100)


def test_wus_schedule_is_pyslowfasts():
    """Ends of stages and rates as its function gives them for two settings."""
    stages = Multigrid(Shape(64, 32, 224), (94, 154, 196), 239, "wu").stages()
    ends = [73, 110, 142, 158, 205, 228, 248, 259, 291, 308, 322, 329, 358]
    assert [end for end, _ in stages if end != (329 + 358) // 2] == ends
    stages = Multigrid(Shape(64, 16, 256), (40, 80), 100, "wu").stages()
    middle = (136 + 150) // 2
    ends = [32, 47, 61, 68, 100, 115, 129, 136, middle, 150]
    assert [end for end, _ in stages] == ends
    rates = [8, 4, 2, 1, 0.8, 0.4, 0.2, 0.1, 0.1, 0.01]
    assert [step.rate for _, step in stages] == pytest.approx(rates)
    shapes = [(512, 4, 181), (256, 8, 181), (128, 8, 256), (64, 16, 256)]
    assert [step.shape for _, step in stages] == [*shapes, *shapes, *shapes[-1:] * 2]


def test_wus_short_cycle_goes_down_to_half_the_full_side():
    schedule = Multigrid(Shape(64, 16, 256), (40, 80), 100, "wu")
    plan = schedule.epoch(0, 100_000)
    assert [step.shape for step in plan[:3]] == [(1024, 4, 128), (512, 4, 181), (512, 4, 181)]
    assert {step.shape for step in schedule.epoch(149, 10_000)} == {
        (256, 16, 128),
        (128, 16, 181),
        (64, 16, 256),
    }
    assert schedule.total_epochs == 150


def test_the_authors_variant_has_the_papers_ranges():
    """Section 4.1: frames 4 to 16, crops 90 to 256, batches 64 to 2048."""
    plan = PAPERS.epoch(0, 100_000)
    for values, low, high in zip(
        zip(*(s.shape for s in plan), strict=True), (64, 4, 90), (2048, 16, 256), strict=True
    ):
        assert (min(values), max(values)) == (low, high)
    assert all(step.shape.crop % 2 == 0 for step in plan)
    quarter = len(plan) // 4
    rates = [step.rate for step in plan]
    assert rates == [1.0] * quarter + [0.5] * quarter + [0.25] * quarter + [0.125] * quarter
    assert [step.rate for step in PAPERS.epoch(40, 100_000)] == pytest.approx(
        [r / 10 for r in rates]
    )
    assert PAPERS.epoch(39, 100_000) == plan
    assert PAPERS.total_epochs == 100


@given(
    batch=st.integers(4, 64),
    frames=st.integers(4, 64),
    crop=st.integers(64, 256),
    samples=st.integers(2_000, 20_000),
    epoch=st.integers(0, 14),
    variant=st.sampled_from(["authors", "wu"]),
)
def test_every_batch_costs_the_same_and_every_epoch_is_one_pass(
    batch, frames, crop, samples, epoch, variant
):
    frames -= frames % 4
    schedule = Multigrid(Shape(batch, frames, crop), (4, 8), 10, variant)
    plan = schedule.epoch(epoch, samples)
    cost = batch * frames * crop**2
    for (b, t, side), rate in plan:
        # Sides are rounded to pixels, or to even numbers of them.
        assert b * t * side**2 == pytest.approx(cost, rel=0.15)
        assert rate > 0
    seen = sum(step.shape.batch for step in plan)
    assert seen <= samples
    assert not plan or seen > samples - 4 * 32 * batch * 4


@pytest.mark.parametrize("grid", [None, Multigrid(Shape(4, 8, 64), (2,), 4)])
def test_batches_of_two_processes_are_those_of_one(grid):
    alone = EpochBatches(1000, 4, 3, grid=grid)
    shares = [EpochBatches(1000, 4, 3, rank, 2, grid) for rank in (0, 1)]
    for batches in (alone, *shares):
        batches.begin(0)
    for one, *two in zip(alone, *shares, strict=True):
        assert sorted(two[0] + two[1]) == sorted(one)
        assert len(two[0]) == len(two[1])
    first = list(alone)
    items = [item if grid is None else item[0] for batch in first for _, item in batch]
    assert len(set(items)) == len(items) <= 1000
    assert len(first) == len(alone)
    assert list(alone) == first
    alone.begin(1)
    assert [item for batch in alone for _, item in batch] != [
        i for batch in first for _, i in batch
    ]
    rest = EpochBatches(1000, 4, 3, grid=grid)
    rest.begin(0, 5)
    assert list(rest) == first[5:]


def test_order_is_that_of_torchs_sampler():
    batches = EpochBatches(50, 4, 3, 1, 2)
    batches.begin(5)
    order = DistributedSampler(range(50), 2, 1, seed=3, drop_last=True)
    order.set_epoch(5)
    assert [[i for _, i in batch] for batch in batches] == list(BatchSampler(order, 2, True))


def test_bad_arguments():
    shape = Shape(3, 8, 64)
    with pytest.raises(ValueError, match="variant must be 'authors' or 'wu', got 'long'"):
        Multigrid(shape, (2,), 4, "long")
    with pytest.raises(ValueError, match=r"steps must rise between 0 and 4, got \(4,\)"):
        Multigrid(shape, (4,), 4)
    grid = Multigrid(shape, (2,), 4)
    with pytest.raises(ValueError, match="multiple of the 2 processes, got 3"):
        EpochBatches(1000, 3, 0, 0, 2, grid)
    with pytest.raises(ValueError, match=r"has only 10 .*, which fill no batch of epoch 1"):
        EpochBatches(10, 3, 0, grid=grid).begin(0)
