"""Batches whose content is decided by seed, epoch and place in it alone.

Neither the number of workers nor an interruption changes them, and the images of a global batch are
the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, Sampler

from softpool_det.classification.config import Config
from softpool_det.training.randomness import seed_of, seeded
from softpool_det.training.workers import outlive_signals
from softpool_det.video.multigrid import Multigrid, Shape


class SeededDataset(Dataset):
    """A data set whose transforms draw from a seed of their own for every epoch and item.

    Its keys are (epoch, what the data set takes); it gives (image, label, what the data set took).
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, Any]) -> Any:
        epoch, item = key
        numbers = item if isinstance(item, tuple) else (item,)
        # Without workers this is the process that trains: its own generators are left alone.
        with seeded(seed_of(self.seed, epoch, *numbers)):
            return (*self.dataset[item], item)


class EpochBatches(Sampler):
    """The batches of an epoch, from one of them on, as keys of a `SeededDataset`.

    Args:
        batches: gives lists of what the data set takes. It, or its `sampler`, has `set_epoch`.
    """

    def __init__(self, batches: Any) -> None:
        self.batches, self.epoch, self.start = batches, -1, 0

    def begin(self, epoch: int, start: int = 0) -> None:
        """Let the next iteration be over `epoch`, from 0, without its first `start` batches."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, start
            getattr(self.batches, "sampler", self.batches).set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        for batch in islice(self.batches, self.start, None):
            yield [(self.epoch, item) for item in batch]


def multigrid(cfg: Config) -> Multigrid | None:
    """Build the schedule of a training, None for one shape of batches.

    Raises:
        ValueError: a key has a value that does not go with it.
    """
    variant = cfg.clips.multigrid
    if not variant or not cfg.epochs:
        return None
    accumulated = cfg.trainer.get("accumulate_grad_batches", 1)
    for key, value, right in (
        ("warmup_epochs", cfg.warmup_epochs, 0),
        ("trainer.accumulate_grad_batches", accumulated, 1),
    ):
        if value != right:
            raise ValueError(f"{key} must be {right} with clips.multigrid, got {value}")
    shape = Shape(cfg.batch_size, cfg.clips.frames, cfg.size)
    steps = [round(epoch) for epoch in cfg.milestones if epoch < cfg.epochs]
    try:
        return Multigrid(shape, steps, cfg.epochs, variant, cfg.gamma)
    except ValueError as error:
        keys = f"clips.multigrid={variant} with milestones={cfg.milestones}, epochs={cfg.epochs}"
        raise ValueError(f"{keys}: {error}") from error


def shuffled_batches(
    dataset: Any, batch_size: int, seed: int, rank: int, world_size: int
) -> BatchSampler:
    """Sample this process's share of shuffled batches; an unfilled one is left out.

    Raises:
        ValueError: the batch cannot be shared out evenly, or is larger than the data set.
    """
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size must be a multiple of the {world_size} processes, got {batch_size}"
        )
    if len(dataset) < batch_size:
        raise ValueError(
            f"batch_size is {batch_size}, but the training set has only {len(dataset)} images"
        )
    order: DistributedSampler = DistributedSampler(
        dataset, world_size, rank, shuffle=True, seed=seed, drop_last=True
    )
    return BatchSampler(order, batch_size // world_size, drop_last=True)


def all_batches(size: int, batch_size: int, rank: int, world_size: int) -> BatchSampler:
    """List this process's share of all items, each once, as keys of a `SeededDataset`."""
    share = [(0, item) for item in range(rank, size, world_size)]
    return BatchSampler(share, max(batch_size // world_size, 1), drop_last=False)


def loader(dataset: Any, batches: Any, seed: int, num_workers: int) -> DataLoader:
    """Load batches of (images, labels, items), of keys of a `SeededDataset`."""
    return DataLoader(
        SeededDataset(dataset, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=outlive_signals,
    )
