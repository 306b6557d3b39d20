"""What is in a training batch: decided by seed and iteration alone."""

import itertools
import os
import random

import numpy as np
import pytest
import torch
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from softpool_det.io.data_errors import DataError
from softpool_det.training.guarded_mapper import Unreadable
from softpool_det.training.train_loader import MAX_IN_A_ROW, Batches, TrainLoader

RECORDS = [{"number": i, "width": 20 + i % 3, "height": 21} for i in range(11)]


def drawing(record):
    """A mapper that draws from every generator there is."""
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    return {**record, "drawn": drawn}


def loader(records=RECORDS, mapper=drawing, **options):
    return TrainLoader(records, mapper=mapper, **{"total_batch_size": 4, "seed": 3, **options})


def take(batches, count):
    return list(itertools.islice(iter(batches), count))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 40),
    per_process=st.integers(1, 4),
    world_size=st.integers(1, 4),
    start=st.integers(0, 30),
    grouped=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_part_is_that_of_the_whole(size, per_process, world_size, start, grouped, seed):
    landscape = [i % 3 == 0 for i in range(size)] if grouped else None
    total = per_process * world_size

    def batches(*where):
        return take(Batches(TrainingSampler(size, seed=0), landscape, total, seed, *where), 6)

    whole = take(Batches(TrainingSampler(size, seed=0), landscape, total, seed), start + 6)[start:]
    parts = [batches(start, rank, world_size) for rank in range(world_size)]
    for iteration, batch in enumerate(whole):
        assert len(batch) == total
        shared = [place for part in parts for place in part[iteration]]
        assert sorted(shared) == sorted(batch)
        if grouped:
            assert len({landscape[index] for index, _ in batch}) == 1


def test_batches_of_a_step_are_a_large_one():
    """Of one shape, too, and from any step on."""
    landscape = [True, False, True, True, False] * 3
    large = take(Batches(TrainingSampler(15, seed=0), landscape, 6, 3, start=2), 4)
    for rank in range(2):
        parts = Batches(TrainingSampler(15, seed=0), landscape, 2, 3, 2, rank, 2, accumulate=3)
        found = take(parts, 12)
        for number, batch in enumerate(large):
            step = found[3 * number : 3 * number + 3]
            assert [place for part in step for place in part] == batch[rank::2]


def test_every_record_once_an_epoch():
    batches = take(Batches(TrainingSampler(12, seed=0), None, 4, 0), 6)
    places = [place for batch in batches for place in batch]
    assert [number for _, number in places] == list(range(24))
    for epoch in (places[:12], places[12:]):
        assert sorted(index for index, _ in epoch) == list(range(12))
    assert places[:12] != places[12:]


@pytest.mark.parametrize(
    "sampler",
    [
        RepeatFactorTrainingSampler(torch.tensor([3.0, 1.0, 1.0, 1.0]), seed=5),
        RandomSubsetTrainingSampler(8, 0.5, seed_shuffle=5, seed_subset=1),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_other_samplers_of_detectron2(sampler):
    indices = [i for batch in take(Batches(sampler, None, 2, 7), 12) for i, _ in batch]
    if isinstance(sampler, RepeatFactorTrainingSampler):
        assert indices.count(0) == 12
    else:
        assert len(set(indices)) == 4


def test_order_depends_on_the_seed():
    def order(seed):
        return take(Batches(TrainingSampler(9, seed=0), None, 3, seed), 6)

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_goes_on_where_it_is_told(num_workers):
    whole = take(loader(), 8)
    rest = loader(num_workers=num_workers)
    rest.start = 5
    assert take(rest, 3) == whole[5:]


def test_workers_stay():
    """An epoch's end is no end: `persistent_workers` would change nothing."""
    pids = take(loader(mapper=lambda _: os.getpid(), num_workers=2), 10 * len(RECORDS))
    assert len({pid for batch in pids for pid in batch}) == 2


def test_generators_of_the_process_are_left_alone():
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = state()
    drawn = [record["drawn"] for batch in take(loader(), 3) for record in batch]
    assert state() == before
    assert len(set(drawn)) == len(drawn)


def test_augmentation_depends_on_the_place_not_on_the_record_alone():
    again = [r["drawn"] for batch in take(loader(), 12) for r in batch if r["number"] == 4]
    assert len(set(again)) == len(again) > 2


def test_mapper_may_pass_a_record_over():
    found = take(loader(mapper=lambda r: r if r["number"] % 2 else None), 6)
    assert {record["number"] for batch in found for record in batch} <= {1, 3, 5, 7, 9}


def half_readable(record):
    return record if record["number"] % 2 else Unreadable(f"{record['number']}.png", "is broken")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_record_ends_the_training(num_workers):
    with pytest.raises(DataError, match=r"^\d+\.png: is broken; INPUT\.SKIP_CORRUPT True "):
        take(loader(mapper=half_readable, num_workers=num_workers), 9)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_records_are_left_out_and_counted(num_workers, caplog):
    batches = loader(mapper=half_readable, num_workers=num_workers, skip=True)
    found = take(batches, 9)
    assert {len(batch) for batch in found} == {4}
    assert {record["number"] for batch in found for record in batch} == {1, 3, 5, 7, 9}
    assert batches.skipped.reasons == {f"{i}.png": "is broken" for i in (0, 2, 4, 6, 8, 10)}
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 6


@pytest.mark.parametrize("count", [3, 2 * MAX_IN_A_ROW])
def test_nothing_readable(count):
    records = [{"number": i} for i in range(count)]
    broken = loader(records, lambda r: Unreadable(f"{r['number']}.png", "is gone"), skip=True)
    tried = min(count, MAX_IN_A_ROW)
    with pytest.raises(DataError, match=rf"^{tried} images in a row cannot .* last: \d+\.png: is"):
        take(broken, 1)


def test_records_without_size_are_not_grouped():
    records = [{"number": i} for i in range(5)]
    assert len(take(loader(records), 3)) == 3


def test_uneven_batch():
    with pytest.raises(ValueError, match=r"SOLVER\.IMS_PER_BATCH must be a multiple of the 3 pro"):
        Batches(TrainingSampler(4, seed=0), None, 4, 0, 0, 0, 3)
