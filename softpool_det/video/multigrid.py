"""Multigrid training (Wu et al., CVPR 2020): small clips in large batches first.

batch * frames * crop^2 stays the same. Both schedules are functions of numbers alone.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Shape(NamedTuple):
    """Of a batch of all processes together."""

    batch: int
    frames: int
    crop: int  # pixels


class Step(NamedTuple):
    """One iteration."""

    shape: Shape
    rate: float  # times the base learning rate


class Stage(NamedTuple):
    """Epochs of Wu's schedule with one shape and rate."""

    end: int  # epochs from the start of training
    shape: Shape
    rate: float


# Divisors of frames and of crop^2, coarse to fine.
_LONG = ((4, 2), (2, 2), (2, 1), (1, 1))


@dataclass(frozen=True)
class Multigrid:
    """A schedule.

    Args:
        shape: the batch at full size, of all processes.
        steps: epochs at which the learning rate falls, without multigrid.
        epochs: of the training without multigrid.
        variant: "authors": the four shapes follow each other in every epoch, the rate is halved
            from one to the next, and crops are made even. "wu": each part between two `steps` goes
            through the four shapes, with the rates multiplied by 8, 4, 2 and 1.
        gamma: by which the rate is multiplied at each of `steps`.
        epoch_factor: "wu" trains so many times the epochs.
    """

    shape: Shape
    steps: Sequence[int]
    epochs: int
    variant: str = "authors"
    gamma: float = 0.1
    epoch_factor: float = 1.5

    def __post_init__(self) -> None:
        if self.variant not in ("authors", "wu"):
            raise ValueError(f"variant must be 'authors' or 'wu', got {self.variant!r}")
        bounds = [0, *self.steps, self.epochs]
        if any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ValueError(f"steps must rise between 0 and {self.epochs}, got {self.steps}")

    @property
    def total_epochs(self) -> int:
        return self.epochs if self.variant == "authors" else self.stages()[-1].end

    def stages(self) -> list[Stage]:
        """Wu's schedule. Each shape of a part has as many iterations as the others."""
        shapes = [self._long(i) for i in range(4)]
        clips = [sum(s.batch for s in self.short_cycle(shape)) / 3 for shape in shapes]
        bounds = [0, *self.steps, self.epochs]
        # Epochs, shape, rate; as far apart as they shall be but for one factor.
        parts: list[tuple[float, Shape, float]] = []
        for number, (low, high) in enumerate(itertools.pairwise(bounds)):
            rate = self.gamma**number
            if high < self.epochs or not self.steps:
                for shape, share in zip(shapes, clips, strict=True):
                    factor = shape.batch / self.shape.batch
                    parts.append(((high - low) * share / sum(clips), shape, rate * round(factor)))
            else:
                parts.append(((high - low) * clips[-1] / (sum(clips) / 4), shapes[-1], rate))
        scale = self.epochs * self.epoch_factor / sum(length for length, *_ in parts)
        stages, reached = [], 0.0
        for length, shape, rate in parts:
            reached += length * scale
            stages.append(Stage(round(reached), shape, rate))
        if self.steps:
            # The first half of the last part has the rate of the one before it.
            last, before = stages[-1], stages[-2]
            middle = (before.end + last.end) // 2
            stages[-1:] = [Stage(middle, last.shape, before.rate), last]
        return stages

    def epoch(self, number: int, samples: int) -> list[Step]:
        """The iterations of an epoch, `number` from 0, over so many samples."""
        if self.variant == "authors":
            cycles = [self.short_cycle(self._long(i)) for i in range(4)]
            rates = [self.gamma ** bisect.bisect(self.steps, number) / 2**i for i in range(4)]
        else:
            stages = self.stages()
            ends = [stage.end for stage in stages]
            stage = stages[min(bisect.bisect(ends, number), len(stages) - 1)]
            cycles, rates = [self.short_cycle(stage.shape)], [stage.rate]
        clips = sum(shape.batch for cycle in cycles for shape in cycle) / 3
        # As many of each shape as fill one pass over the samples.
        count = int(samples / clips)
        plan = [
            Step(cycle[(i * count + k) % 3], rate)
            for i, (cycle, rate) in enumerate(zip(cycles, rates, strict=True))
            for k in range(count)
        ]
        while sum(step.shape.batch for step in plan) > samples:
            plan.pop()
        return plan

    def short_cycle(self, shape: Shape) -> list[Shape]:
        """The three shapes that iterations take in turn while the long cycle is at `shape`."""
        batch, frames, crop = shape
        if self.variant == "authors":
            crops = [crop, int(crop / math.sqrt(2)), crop // 2]
            return [Shape(batch * 2**i, frames, side + side % 2) for i, side in enumerate(crops)]
        sides = [self.shape.crop / 2, self.shape.crop / math.sqrt(2), crop]
        return [Shape(batch * round((crop / s) ** 2), frames, round(s)) for s in sides]

    def _long(self, number: int) -> Shape:
        frames, area = _LONG[number]
        crop = self.shape.crop / math.sqrt(area)
        crop = int(crop) if self.variant == "authors" else round(crop)
        return Shape(self.shape.batch * frames * area, max(self.shape.frames // frames, 1), crop)


class MultigridBatchSampler(Sampler):
    """Batches of (index, frames, crop) for a `VideoClips`; `steps` has the rate of each.

    Args:
        samples: number of clips, at least one batch of the largest shape.
        schedule: batches are those of all processes.
        seed: of the order, 0 or more.
        rank, world_size: of this process and of all, among which batches are shared out.

    Raises:
        ValueError: a batch cannot be shared out evenly, or there are too few samples.
    """

    def __init__(
        self, samples: int, schedule: Multigrid, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if schedule.shape.batch % world_size:
            raise ValueError(
                f"shape.batch must be a multiple of the {world_size} processes, "
                f"got {schedule.shape.batch}"
            )
        self.samples, self.schedule, self.seed = samples, schedule, seed
        self.rank, self.world_size = rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the batches of an epoch, from 0, next."""
        self.epoch = epoch
        self.steps = self.schedule.epoch(epoch, self.samples)
        if not self.steps:
            raise ValueError(f"samples must fill a batch of epoch {epoch}, got {self.samples}")

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator).tolist()
        first = 0
        for (batch, frames, crop), _ in self.steps:
            share = order[first + self.rank : first + batch : self.world_size]
            first += batch
            yield [(index, frames, crop) for index in share]
