"""Batches whose content is decided by seed, epoch and place in it alone.

Neither the number of workers nor an interruption changes them, and the images of a global batch are
the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

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
    """This process's share of the shuffled batches of an epoch, as keys of a `SeededDataset`.

    Args:
        samples: number of images or clips; those that fill no batch are left out.
        batch_size: of all processes together.
        seed: of the order, as in torch's `DistributedSampler`.
        rank, world_size: of this process and of all.
        grid: what decides the shapes of batches of clips; None for batches of one shape.

    Raises:
        ValueError: a batch cannot be divided evenly.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        grid: Multigrid | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of the {world_size} processes, got {batch_size}"
            )
        self.samples, self.batch_size, self.seed, self.grid = samples, batch_size, seed, grid
        self.rank, self.world_size, self.epoch = rank, world_size, -1
        self.shapes: list[tuple[int, ...]] = []

    def begin(self, epoch: int, start: int = 0) -> None:
        """Let the next iteration be over `epoch`, from 0, without its first `start` batches.

        Raises:
            ValueError: the samples fill no batch of the epoch.
        """
        if epoch == self.epoch:
            return
        self.epoch, self.start = epoch, start
        self.shapes = [(self.batch_size,)] * (self.samples // self.batch_size)
        if self.grid:
            self.shapes = [step.shape for step in self.grid.epoch(epoch, self.samples)]
        if not self.shapes:
            raise ValueError(
                f"batch_size is {self.batch_size}, but the training set has only {self.samples} "
                f"images or clips, which fill no batch of epoch {epoch + 1}"
            )

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = iter(torch.randperm(self.samples, generator=generator).tolist())
        for number, (batch, *grid) in enumerate(self.shapes):
            share = list(islice(order, batch))[self.rank :: self.world_size]
            if number >= self.start:
                yield [(self.epoch, (index, *grid) if grid else index) for index in share]


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
