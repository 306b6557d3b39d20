"""How often intervals hold the truth, on simulated pairs of detectors."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numba
import numpy as np
from tqdm import tqdm

from simulated.detectors import (
    Population,
    detect,
    draw_images,
    draw_qualities,
    true_figures,
)
from softpool_det.coco.protocol import METRICS
from softpool_det.statistics.bootstrap import bootstrap
from softpool_det.statistics.intervals import estimate


@dataclass(frozen=True)
class Coverage:
    """Of the difference of two arms in each of `METRICS`, over `trials` comparisons.

    Attributes:
        trials: how many.
        covered: (7,) share of intervals that held the truth, 0 to 1.
        below, above: (7,) share with the truth below, and above, the interval.
        truth: (7,) true differences, 0 to 1.
        width: (7,) mean width of the intervals, 0 to 1.
        spread: (7,) standard deviation of the measured differences.
        standard_error: (7,) root mean square of the reported standard errors.
    """

    trials: int
    covered: np.ndarray
    below: np.ndarray
    above: np.ndarray
    truth: np.ndarray
    width: np.ndarray
    spread: np.ndarray
    standard_error: np.ndarray


def measure_coverage(
    population: Population,
    *,
    images: int,
    seeds: int,
    trials: int,
    resamples: int,
    random_seed: int,
    truth_images: int = 20_000,
    truth_seeds: int = 20,
    confidence: float = 0.95,
    workers: int = 1,
    progress: str | None = None,
) -> Coverage:
    """Compare two arms of the population again and again, on new images with new seeds.

    Args:
        population: what is drawn from.
        images, seeds: of each comparison.
        trials: comparisons.
        resamples: of each one's bootstrap.
        random_seed: of everything.
        truth_images, truth_seeds: the true difference is that over so many.
        confidence: of the intervals.
        workers: processes.
        progress: what to write before the progress bar on stderr; no bar by default.
    """
    first, *others = np.random.SeedSequence(random_seed).spawn(1 + trials)
    figures = true_figures(population, truth_images, truth_seeds, np.random.default_rng(first))
    truth = figures[1] - figures[0]
    one = partial(_trial, population, images, seeds, resamples, confidence)
    with ProcessPoolExecutor(workers, get_context("spawn"), _share_cores) as pool:
        found = pool.map(one, others, chunksize=8) if workers > 1 else map(one, others)
        bar = tqdm(found, total=trials, desc=progress, disable=progress is None, leave=False)
        rows = np.array(list(bar))
    low, high, value, error = np.moveaxis(rows, 2, 0)
    return Coverage(
        trials=trials,
        covered=((low <= truth) & (truth <= high)).mean(axis=0),
        below=(truth < low).mean(axis=0),
        above=(truth > high).mean(axis=0),
        truth=truth,
        width=(high - low).mean(axis=0),
        spread=value.std(axis=0, ddof=1),
        standard_error=np.sqrt((error**2).mean(axis=0)),
    )


def _share_cores() -> None:
    numba.config.NUMBA_NUM_THREADS = 1


def _trial(
    population: Population,
    images: int,
    seeds: int,
    resamples: int,
    confidence: float,
    random_seed: np.random.SeedSequence,
) -> np.ndarray:
    """(7, 4): low, high, value and standard error of one comparison."""
    rng = np.random.default_rng(random_seed)
    drawn = draw_images(population, images, rng)
    qualities = draw_qualities(population, seeds, rng)
    arms = [[detect(population, drawn, q, rng) for q in row] for row in qualities]
    draws = bootstrap(arms, resamples=resamples, random_seed=int(rng.integers(2**31))).metrics
    differences = draws[1] - draws[0]
    found = [estimate(differences[:, 0, m], differences[:, 1:, m]) for m in range(len(METRICS))]
    return np.array([(*f.interval(confidence), f.value, f.standard_error) for f in found])
