"""How much longer the slowest of N processes takes than an average one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Between the quartiles of a normal distribution, in standard deviations.
_QUARTILES = 1.349


def spread(q1: float, q3: float) -> float:
    """Standard deviation of the logarithm of times with these quartiles, were it normal."""
    return math.log(q3 / q1) / _QUARTILES


def areas(sides: Sequence[int], images: int, draws: int, generator: np.random.Generator):
    """Pixels of a process's batch, relative to the mean: all images padded to the largest.

    Args:
        sides: lengths of the shorter side, drawn with equal chance (INPUT.MIN_SIZE_TRAIN).
        images: of one process.
        draws: how many batches.

    Returns:
        (draws,) factors with the exact distribution's mean of 1.
    """
    values = np.sort(np.asarray(sides, dtype=float)) ** 2
    # The largest of the images is at most the k-th value with chance (k / n)^images.
    chances = np.diff((np.arange(len(values) + 1) / len(values)) ** images)
    drawn = generator.choice(values, size=draws, p=chances)
    return drawn / (values * chances).sum()


def slowest(
    processes: int, sides: Sequence[int], images: int, sigma: float, steps: int, seed: int
) -> np.ndarray:
    """Time of the slowest process in each of `steps` steps, relative to a mean process's.

    A process's time is its batch's pixels times noise of mean 1.

    Args:
        processes: 1 or more.
        sides, images: as in :func:`areas`.
        sigma: of the noise's logarithm, from :func:`spread`.
        steps: simulated.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    found = np.zeros(steps)
    # One process after the other: those of fewer processes are the first of more, so that more
    # are never faster.
    for _ in range(processes):
        noise = np.exp(sigma * generator.standard_normal(steps) - sigma**2 / 2)
        found = np.maximum(found, areas(sides, images, steps, generator) * noise)
    return found
