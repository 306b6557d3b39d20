"""Batches whose content is decided by seed, epoch and place in it alone.

Neither the number of workers nor an interruption changes them, and the images of a global batch are
the same for any number of processes.
"""

from __future__ import annotations

from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler

from softpool_det.classification.datasets import LabelledImages
from softpool_det.training.randomness import seed_of, seeded
from softpool_det.training.workers import outlive_sigterm


class SeededDataset(Dataset):
    """A data set whose random transforms are drawn anew for every epoch and image, from a seed.

    Args:
        dataset: its transforms draw from torch's default generator.
        seed: 0 or more.
        epoch: 0 or more.
    """

    def __init__(self, dataset: LabelledImages, seed: int, epoch: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __getitem__(self, index: int) -> Any:
        # Without workers this is the process that trains: its own generators are left alone.
        with seeded(seed_of(self.seed, self.epoch, index)):
            return self.dataset[index]


class TrainLoader:
    """The training batches of one process, epoch by epoch.

    Args:
        dataset: of (image tensor, label).
        batch_size: of all processes together; images that do not fill a batch are left out.
        seed: of the order and the augmentation, 0 or more.
        rank, world_size: of this process and of all.
        num_workers: processes that read images, for this one; 0 to read them here.
        pin_memory: for a faster way to a GPU.

    Attributes:
        iterations: of an epoch.

    Raises:
        ValueError: the batch cannot be shared out evenly, or is larger than the data set.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH must be a multiple of the {world_size} processes, "
                f"got {batch_size}"
            )
        if len(dataset) < batch_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH is {batch_size}, but the training set has only "
                f"{len(dataset)} images"
            )
        self.dataset, self.batch_size, self.seed, self.rank = dataset, batch_size, seed, rank
        self.sampler: DistributedSampler = DistributedSampler(
            dataset, world_size, rank, shuffle=True, seed=seed, drop_last=True
        )
        self.batch_sampler = BatchSampler(self.sampler, batch_size // world_size, drop_last=True)
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.iterations = len(dataset) // batch_size

    def epoch(self, epoch: int, start: int) -> DataLoader:
        """Batches of an epoch from iteration `start` of it on; earlier images are not read."""
        self.sampler.set_epoch(epoch)
        batches = list(self.batch_sampler)[start : self.iterations]
        seeded = SeededDataset(self.dataset, self.seed, epoch)
        return DataLoader(
            seeded,
            batch_sampler=batches,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            worker_init_fn=outlive_sigterm,
        )


def evaluation_loader(
    dataset: LabelledImages, batch_size: int, rank: int, world_size: int, num_workers: int
) -> DataLoader:
    """This process's share of a data set, each image once: batches of (image, label, index)."""
    share = range(rank, len(dataset), world_size)
    batches = [list(share[i : i + batch_size]) for i in range(0, len(share), batch_size)]
    return DataLoader(
        _Indexed(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        worker_init_fn=outlive_sigterm,
    )


class _Indexed(Dataset):
    def __init__(self, dataset: LabelledImages) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Any, int, int]:
        return (*self.dataset[index], index)
