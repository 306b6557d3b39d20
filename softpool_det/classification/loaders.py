"""Transforms and batches, whose content is decided by seed, epoch and place in it alone.

Neither the number of workers nor an interruption changes them, and the images of a global batch are
the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, Sampler
from torchvision.transforms import v2

from softpool_det.classification.config import construct
from softpool_det.training.randomness import seed_of, seeded
from softpool_det.training.workers import outlive_sigterm


def image_transform(
    entries: Sequence[dict[str, Any]], mean: Sequence[float], std: Sequence[float], key: str
) -> Callable[[Image.Image], torch.Tensor]:
    """From a PIL image to a normalized float32 tensor (3, H, W).

    Args:
        entries: classes of `torchvision.transforms.v2` with their arguments.
        mean, std: of the channels R, G, B, for pixels from 0 to 255.
        key: where `entries` come from, for errors.
    """
    steps = [construct(v2, entry, key) for entry in entries]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize(list(mean), list(std))]
    return v2.Compose(steps)


def batch_transform(entries: Sequence[dict[str, Any]], num_classes: int) -> v2.Transform | None:
    """One of the `entries`, drawn for each batch (images, labels); None where there are none."""
    key = "batch_transforms"
    mixers = [construct(v2, entry, key, num_classes=num_classes) for entry in entries]
    return v2.RandomChoice(mixers) if mixers else None


class SeededDataset(Dataset):
    """A data set whose transforms draw from a seed of their own for every epoch and item.

    Args:
        dataset: its transforms draw from generators of torch, NumPy and Python.
        seed: 0 or more.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, Any]) -> Any:
        epoch, item = key
        numbers = item if isinstance(item, tuple) else (item,)
        # Without workers this is the process that trains: its own generators are left alone.
        with seeded(seed_of(self.seed, epoch, *numbers)):
            return self.dataset[item]


class EpochBatches(Sampler):
    """The batches of an epoch, from one of them on, as keys of a `SeededDataset`.

    Args:
        batches: a batch sampler with `set_epoch`; what it gives is what the data set takes.
    """

    def __init__(self, batches: Any) -> None:
        self.batches, self.epoch, self.start = batches, -1, 0

    def begin(self, epoch: int, start: int = 0) -> None:
        """Let the next iteration be over `epoch`, from 0, without its first `start` batches."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, start
            self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        for batch in islice(iter(self.batches), self.start, None):
            yield [(self.epoch, item) for item in batch]


class ShuffledBatches(BatchSampler):
    """This process's share of batches of a data set's indices; what fills no batch is left out.

    Raises:
        ValueError: the batch cannot be shared out evenly, or is larger than the data set.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of the {world_size} processes, got {batch_size}"
            )
        if size < batch_size:
            raise ValueError(
                f"batch_size is {batch_size}, but the training set has only {size} items"
            )
        order: DistributedSampler = DistributedSampler(
            range(size),  # type: ignore[arg-type]
            world_size,
            rank,
            shuffle=True,
            seed=seed,
            drop_last=True,
        )
        super().__init__(order, batch_size // world_size, drop_last=True)
        self.set_epoch = order.set_epoch
        self.iterations = size // batch_size

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        return islice(super().__iter__(), self.iterations)


def train_loader(dataset: Any, batches: EpochBatches, seed: int, num_workers: int) -> DataLoader:
    return DataLoader(
        SeededDataset(dataset, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=outlive_sigterm,
    )


def evaluation_loader(
    dataset: Any, batch_size: int, rank: int, world_size: int, num_workers: int
) -> DataLoader:
    """This process's share of a data set, each item once: batches of (images, labels, indices)."""
    share = range(rank, len(dataset), world_size)
    batches = [list(share[i : i + batch_size]) for i in range(0, len(share), batch_size)]
    return DataLoader(
        _Indexed(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        worker_init_fn=outlive_sigterm,
    )


class _Indexed(Dataset):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Any, int, int]:
        return (*self.dataset[index], index)
