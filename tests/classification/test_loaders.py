from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from softpool_det.classification.datasets import LabelledArrays
from softpool_det.classification.loaders import (
    SeededDataset,
    TrainLoader,
    evaluation_loader,
)
from softpool_det.training.randomness import seed_of

SEED = 7


def noise_of(size):
    """Pictures of one grey, each its own, and a transform that adds what it draws."""
    images = np.arange(size, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    add_noise = v2.Lambda(lambda image: v2.functional.pil_to_tensor(image) + torch.rand(3, 4, 4))
    return LabelledArrays(images, np.arange(size) % 3, ("a", "b", "c"), add_noise)


def train_loader(size=23, batch_size=4, rank=0, world_size=1, num_workers=0):
    return TrainLoader(noise_of(size), batch_size, SEED, rank, world_size, num_workers, False)


def which(batch):
    return batch[0][:, 0, 0, 0].int().tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.sampled_from([1, 2, 4]), st.integers(0, 3))
def test_processes_share_the_batches_of_one(size, world_size, epoch):
    alone = [which(batch) for batch in train_loader(size).epoch(epoch, 0)]
    assert len(alone) == size // 4
    seen = [index for batch in alone for index in batch]
    assert len(set(seen)) == len(seen) == 4 * (size // 4)
    shares = [
        [which(batch) for batch in train_loader(size, 4, rank, world_size).epoch(epoch, 0)]
        for rank in range(world_size)
    ]
    together = [sorted(chain(*parts)) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in alone]


def test_start_skips_batches_and_nothing_else():
    whole = list(train_loader().epoch(2, 0))
    rest = list(train_loader().epoch(2, 3))
    assert len(whole) == 5
    for expected, found in zip(whole[3:], rest, strict=True):
        assert torch.equal(expected[0], found[0])
        assert torch.equal(expected[1], found[1])


def test_workers_change_nothing():
    alone, helped = (train_loader(num_workers=number).epoch(0, 0) for number in (0, 2))
    for expected, found in zip(alone, helped, strict=True):
        assert torch.equal(expected[0], found[0])


def test_each_epoch_draws_anew():
    first, second = (dict(_by_image(train_loader().epoch(epoch, 0))) for epoch in (0, 1))
    common = first.keys() & second.keys()
    assert common
    assert all(not torch.equal(first[index], second[index]) for index in common)


def _by_image(batches):
    for batch in batches:
        yield from zip(which(batch), batch[0], strict=True)


def test_generator_of_the_process_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    SeededDataset(noise_of(4), SEED, epoch=0)[2]
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 7))
def test_every_image_is_evaluated_once(size, world_size, batch_size):
    found = []
    for rank in range(world_size):
        for _, labels, indices in evaluation_loader(
            noise_of(size), batch_size, rank, world_size, 0
        ):
            assert len(labels) <= batch_size
            assert labels.tolist() == [index % 3 for index in indices.tolist()]
            found += indices.tolist()
    assert sorted(found) == list(range(size))


def test_seeds_differ():
    seeds = {seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125


def test_uneven_batch():
    with pytest.raises(ValueError, match=r"SOLVER\.IMS_PER_BATCH must be a multiple of the 3"):
        train_loader(batch_size=4, world_size=3)


def test_batch_larger_than_the_set():
    with pytest.raises(ValueError, match=r"SOLVER\.IMS_PER_BATCH is 24, .* only 23 images"):
        train_loader(batch_size=24)
