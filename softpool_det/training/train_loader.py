"""Training batches whose content is decided by seed and iteration alone.

Detectron2's loader draws its order and its augmentation from generators whose state nobody saves,
and groups images by shape in each process by itself. Here neither the number of workers, nor that
of processes, nor an interruption changes what is in a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from detectron2.data import DatasetFromList
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.training.guarded_mapper import Sample, Unreadable
from softpool_det.training.randomness import seed_of, seeded
from softpool_det.training.workers import outlive_signals

# Of (index of the record, place in the stream of all images).
Place = tuple[int, int]
# So many unreadable records in a row are not an accident: a disk is gone, or a folder is wrong.
MAX_IN_A_ROW = 100


class Batches:
    """One process's share of the batches of a run, from any iteration.

    Args:
        sampler: one of Detectron2's for training; gives order and repetition. Its own seed and
            rank are not used.
        landscape: of each record, whether it is wider than high: a batch then has one of the two,
            so that little has to be padded. None for batches as they come.
        batch_size: of all processes together.
        seed: of the order, 0 or more.
        start: the iteration to begin with.
        rank, world_size: of this process and of all.
        accumulate: batches of an iteration, which together have the images that one large batch
            would have.

    Raises:
        DataError: the batch cannot be split evenly.
    """

    def __init__(
        self,
        sampler: Any,
        landscape: Sequence[bool] | None,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise DataError(
                f"SOLVER.IMS_PER_BATCH must be a multiple of the {world_size} processes, "
                f"got {batch_size}"
            )
        self.sampler, self.landscape, self.batch_size = sampler, landscape, batch_size
        self.seed, self.start, self.rank, self.world_size = seed, start, rank, world_size
        self.accumulate = accumulate

    def __iter__(self) -> Iterator[list[Place]]:
        # Only numbers are counted off: a million images take a second.
        for images in itertools.islice(self._of_iterations(), self.start, None):
            for first in range(0, len(images), self.batch_size):
                batch = images[first : first + self.batch_size]
                yield batch[self.rank :: self.world_size]

    def _of_iterations(self) -> Iterator[list[Place]]:
        groups: dict[bool, list[Place]] = {False: [], True: []}
        # Detectron2's samplers share these two names; in public they offer one rank's part.
        self.sampler._seed = self.seed
        for place, index in enumerate(self.sampler._infinite_indices()):
            group = groups[self.landscape is not None and self.landscape[index]]
            group.append((index, place))
            if len(group) == self.batch_size * self.accumulate:
                yield group[:]
                group.clear()


class SeededRecords(Dataset):
    """Records as the mapper gives them; what it draws at random is decided by seed and place.

    Args:
        records: of Detectron2's form.
        mapper: from a record to what a model takes; None means "take another", as in Detectron2.
            It may return an :class:`Unreadable`.
        seed: 0 or more.
        skip: take the next record in place of an unreadable one.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], Any],
        seed: int,
        skip: bool = False,
    ) -> None:
        self.records, self.mapper, self.seed, self.skip = records, mapper, seed, skip

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: Place) -> Sample:
        index, number = place
        unreadable: list[Unreadable] = []
        with seeded(seed_of(self.seed, number)):
            for offset in range(len(self)):
                mapped = self.mapper(self.records[(index + offset) % len(self)])
                if isinstance(mapped, Unreadable):
                    unreadable.append(mapped)
                    if not self.skip or len(unreadable) == MAX_IN_A_ROW:
                        break
                elif mapped is not None:
                    return Sample(mapped, unreadable)
        return Sample(None, unreadable)


class TrainLoader:
    """Batches of mapped records without end, from iteration `start` on.

    Args:
        dataset: records of Detectron2's form.
        mapper, sampler, total_batch_size, aspect_ratio_grouping, num_workers: as for Detectron2's
            `build_detection_train_loader`.
        seed: of order and augmentation, 0 or more; None for one that is drawn now and shared by
            all processes.
        skip: take the next record in place of an unreadable one.
        skipped: takes what could not be read.
        accumulate: batches of an iteration.

    Attributes:
        start: the iteration to begin with; set it (and `seed`, when a run resumes) before
            iterating.

    Raises:
        ValueError: no records.
        DataError: the batch cannot be split evenly; while iterating, where a record cannot be
            read and `skip` is not set.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        *,
        mapper: Callable[[dict[str, Any]], Any],
        total_batch_size: int,
        sampler: Sampler | None = None,
        aspect_ratio_grouping: bool = True,
        num_workers: int = 0,
        seed: int | None = None,
        skip: bool = False,
        skipped: Skipped | None = None,
        accumulate: int = 1,
    ) -> None:
        self.sampler = TrainingSampler(len(dataset), seed=0) if sampler is None else sampler
        self.landscape = _landscape(dataset) if aspect_ratio_grouping else None
        # Packed, so that workers share the memory, as in Detectron2.
        self.records = DatasetFromList(list(dataset), copy=False)
        self.mapper, self.batch_size, self.num_workers = mapper, total_batch_size, num_workers
        self.seed = comm.shared_random_seed() if seed is None else seed
        self.start, self.skip, self.accumulate = 0, skip, accumulate
        self.skipped = Skipped() if skipped is None else skipped
        self._batches()  # for its errors

    def _batches(self) -> Batches:
        order = (self.sampler, self.landscape, self.batch_size, self.seed, self.start)
        return Batches(*order, comm.get_rank(), comm.get_world_size(), self.accumulate)

    def __iter__(self) -> Iterator[list[Any]]:
        loader = DataLoader(
            SeededRecords(self.records, self.mapper, self.seed, self.skip),
            batch_sampler=self._batches(),
            num_workers=self.num_workers,
            collate_fn=trivial_batch_collator,
            # Only for the workers' seeds; the generator of this process stays as it is.
            generator=torch.Generator(),
            worker_init_fn=outlive_signals,
        )
        for samples in loader:
            for sample in samples:
                self._note(sample)
            yield [sample.mapped for sample in samples]

    def _note(self, sample: Sample) -> None:
        for name, reason in sample.unreadable:
            if not self.skip:
                raise DataError(
                    f"{name}: {reason}; INPUT.SKIP_CORRUPT True leaves out what cannot be read"
                )
            self.skipped.add(name, reason)
        if sample.mapped is None:
            tried = sample.unreadable
            last = ": ".join(tried[-1]) if tried else "the mapper takes none"
            raise DataError(f"{len(tried)} images in a row cannot be read; the last: {last}")


def _landscape(records: Sequence[dict[str, Any]]) -> list[bool] | None:
    """Whether each record is wider than high; None if some record lacks its size."""
    if not all("width" in record and "height" in record for record in records):
        return None
    return [record["width"] > record["height"] for record in records]
