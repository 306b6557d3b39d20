"""Multigrid training (Wu et al., CVPR 2020): small clips in large batches first.

batch * frames * crop^2 stays the same. Schedules depend on numbers alone.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple


class Shape(NamedTuple):
    """Of a batch of all processes together."""

    batch: int
    frames: int
    crop: int  # pixels


class Step(NamedTuple):
    """One iteration."""

    shape: Shape
    rate: float  # times the base learning rate


@dataclass(frozen=True)
class Multigrid:
    """A schedule.

    "authors": the four shapes follow each other in every epoch, the rate is halved from one to the
    next, and crops are made even. "wu": each part before one of `steps` goes through the four
    shapes, with the rates multiplied by 8, 4, 2 and 1; 1.5 times the epochs.
    """

    shape: Shape  # of a batch at full size
    steps: Sequence[int]  # epochs at which the rate falls, without multigrid; "wu" needs one
    epochs: int  # without multigrid
    variant: str = "authors"
    gamma: float = 0.1  # by which the rate is multiplied at each of `steps`

    def __post_init__(self) -> None:
        if self.variant not in ("authors", "wu"):
            raise ValueError(f"variant must be 'authors' or 'wu', got {self.variant!r}")
        rise = all(low < high for low, high in itertools.pairwise([0, *self.steps, self.epochs]))
        if not rise or (self.variant == "wu" and not self.steps):
            raise ValueError(f"steps must rise between 0 and {self.epochs}, got {self.steps}")

    @property
    def total_epochs(self) -> int:
        """Epochs of the training: more than `epochs` with Wu's schedule."""
        return self.epochs if self.variant == "authors" else self.stages()[-1][0]

    def rates(self, samples: int) -> list[float]:
        """Return the factor of the base rate for each iteration of a training."""
        epochs = (self.epoch(number, samples) for number in range(self.total_epochs))
        return [step.rate for epoch in epochs for step in epoch]

    def stages(self) -> list[tuple[int, Step]]:
        """Return Wu's schedule: where each shape and rate ends; a part's have equal iterations."""
        shapes = self.long_cycle()
        clips = [fmean(short.batch for short in self.short_cycle(shape)) for shape in shapes]
        lengths, stages = [], []
        for number, (low, high) in enumerate(itertools.pairwise([0, *self.steps, self.epochs])):
            # The last part is at full size alone; like the others, shorter than without multigrid.
            first, total = (3, sum(clips) / 4) if high == self.epochs else (0, sum(clips))
            for shape, mean in list(zip(shapes, clips, strict=True))[first:]:
                lengths.append((high - low) * mean / total)
                rate = self.gamma**number * (shape.batch // self.shape.batch)
                stages.append(Step(shape, rate))
        scale = 1.5 * self.epochs / sum(lengths)
        ends = [round(scale * length) for length in itertools.accumulate(lengths)]
        # The first half of the last part has the rate of the part before.
        ends.insert(-1, (ends[-2] + ends[-1]) // 2)
        stages.insert(-1, stages[-2])
        return list(zip(ends, stages, strict=True))

    def epoch(self, number: int, samples: int) -> list[Step]:
        """Plan the iterations of an epoch, `number` from 0: one pass over so many samples."""
        if self.variant == "authors":
            rate = self.gamma ** bisect.bisect(self.steps, number)
            cycles = map(self.short_cycle, self.long_cycle())
            parts = [(cycle, rate / 2**i) for i, cycle in enumerate(cycles)]
        else:
            ends, stages = zip(*self.stages(), strict=True)
            shape, rate = stages[bisect.bisect(ends[:-1], number)]
            parts = [(self.short_cycle(shape), rate)]
        count = int(samples / sum(fmean(shape.batch for shape in cycle) for cycle, _ in parts))
        plan = [
            Step(cycle[(i * count + k) % 3], rate)
            for i, (cycle, rate) in enumerate(parts)
            for k in range(count)
        ]
        while sum(step.shape.batch for step in plan) > samples:
            plan.pop()
        return plan

    def long_cycle(self) -> list[Shape]:
        """The four shapes, coarse to fine."""
        batch, frames, crop = self.shape
        whole: Callable[[float], int] = int if self.variant == "authors" else round
        return [
            # Divided are frames, and the area of a crop.
            Shape(batch * time * area, max(frames // time, 1), whole(crop / math.sqrt(area)))
            for time, area in ((4, 2), (2, 2), (2, 1), (1, 1))
        ]

    def short_cycle(self, shape: Shape) -> list[Shape]:
        """The three shapes that iterations take in turn while the long cycle is at `shape`."""
        batch, frames, crop = shape
        if self.variant == "authors":
            crops = [crop, int(crop / math.sqrt(2)), crop // 2]
            return [Shape(batch * 2**i, frames, side + side % 2) for i, side in enumerate(crops)]
        sides = [self.shape.crop / 2, self.shape.crop / math.sqrt(2), crop]
        return [Shape(batch * round((crop / s) ** 2), frames, round(s)) for s in sides]
