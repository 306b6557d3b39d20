"""Resample images, and swap the detections of two arms at random.

Bootstrap (Efron and Tibshirani 1993, chapters 6 and 13): each resample draws as many images as
there are, with replacement; an image that is drawn twice counts twice, detections and objects.
All arms and seeds see the same draws, so their differences are paired.

Permutation test (Good 2005; for paired systems Noreen 1989): if two arms were alike, it would not
matter whose detections an image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from softpool_det.coco.protocol import METRICS
from softpool_det.statistics.average_precision import LANES, object_totals, weighted_metrics
from softpool_det.statistics.matches import Matches
from softpool_det.statistics.ranking import merged_ranking, ranking

# Resamples between two steps of the progress bar: some for each of several threads.
_BATCH = 4 * LANES


@dataclass(frozen=True)
class Draws:
    """Figures of every arm and seed, 0 to 1, with NaN where nothing is to be found.

    Draws from a single image, which says nothing about others, are NaN too.

    Attributes:
        metrics: (arms, seeds, 1 + resamples, 7) float64, `METRICS`; the first of the third axis
            are the images as they are, each once.
        per_class: (arms, seeds, 1 + resamples, K) float64, AP of each category.
    """

    metrics: np.ndarray
    per_class: np.ndarray


def bootstrap(
    arms: Sequence[Sequence[Matches]],
    *,
    resamples: int,
    random_seed: int,
    progress: str | None = None,
) -> Draws:
    """Compute all figures of all runs, on the images as they are and resampled.

    Args:
        arms: for each arm its runs, as many for each and paired by position, all matched with
            the same ground truth.
        resamples: how often images are drawn, from 1.
        random_seed: of the draws; the number of threads does not change them.
        progress: what to write before the progress bar on stderr; no bar by default.

    Raises:
        ValueError: no runs, different numbers of runs, different ground truth, no resamples.
    """
    checked_runs(arms)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}, must be at least 1")
    runs = [run for arm in arms for run in arm]
    rankings = [ranking(run) for run in runs]
    images = len(runs[0].image_ids)
    shape = (len(runs), 1 + resamples)
    metrics = np.empty((*shape, len(METRICS)))
    per_class = np.empty((*shape, len(runs[0].category_ids)))
    rng = np.random.default_rng(random_seed)
    with _bar(progress, resamples) as bar:
        for start in range(0, 1 + resamples, _BATCH):
            end = min(start + _BATCH, 1 + resamples)
            weights = _drawn(rng, end - start, images)
            if start == 0:
                weights[0] = 1
            totals = object_totals(runs[0], weights)
            for place, ranked in enumerate(rankings):
                found = weighted_metrics(ranked, weights, totals)
                metrics[place, start:end], per_class[place, start:end] = found
            bar.update(end - max(start, 1))
    if images == 1:  # which every draw repeats, as if there were no other
        metrics[:, 1:] = per_class[:, 1:] = np.nan
    by_arm = (len(arms), len(arms[0]), 1 + resamples, -1)
    return Draws(metrics.reshape(by_arm), per_class.reshape(by_arm))


def permutation_test(
    baseline: Sequence[Matches],
    candidate: Sequence[Matches],
    *,
    permutations: int,
    random_seed: int,
    progress: str | None = None,
) -> np.ndarray:
    """Two-sided p-values of the difference of the mean over seeds, for `METRICS`.

    An image's detections are swapped in all pairs of runs or in none. The question is about
    these very detectors on other images: how training runs differ does not enter.

    Args:
        baseline, candidate: their runs, paired by position.
        permutations: how often, from 1.
        random_seed, progress: as for `bootstrap`.

    Returns:
        (7,) float64, (1 + swaps with a difference at least as large) / (1 + permutations); NaN
        where nothing is to be found.

    Raises:
        ValueError: see `bootstrap`.
    """
    checked_runs([baseline, candidate])
    if permutations < 1:
        raise ValueError(f"permutations={permutations}, must be at least 1")
    pairs = [merged_ranking(*pair) for pair in zip(baseline, candidate, strict=True)]
    images = len(baseline[0].image_ids)
    once = np.ones((1, images), dtype=np.int32)
    totals = object_totals(baseline[0], once)
    rng = np.random.default_rng(random_seed)
    differences = np.zeros((1 + permutations, len(METRICS)))
    with _bar(progress, permutations) as bar:
        for start in range(0, 1 + permutations, _BATCH):
            end = min(start + _BATCH, 1 + permutations)
            swap = rng.integers(0, 2, size=(end - start, images), dtype=np.int32)
            if start == 0:
                swap[0] = 0
            weights = np.concatenate([np.hstack([1 - swap, swap]), np.hstack([swap, 1 - swap])])
            repeated = np.repeat(totals, len(weights), axis=0)
            for ranked in pairs:
                first, second = np.split(weighted_metrics(ranked, weights, repeated)[0], 2)
                differences[start:end] += (second - first) / len(pairs)
            bar.update(end - max(start, 1))
    sizes = np.abs(differences)
    # Sums in another order must not make equal differences unequal.
    at_least = (sizes[1:] >= sizes[0] - 1e-12).sum(axis=0)
    return np.where(np.isnan(sizes[0]), np.nan, (1 + at_least) / (1 + permutations))


def checked_runs(arms: Sequence[Sequence[Matches]]) -> None:
    """Raise ValueError unless all arms have as many runs, all on the same ground truth."""
    counts = [len(arm) for arm in arms]
    if not counts or min(counts) == 0:
        raise ValueError("every arm needs at least one run")
    if len(set(counts)) > 1:
        raise ValueError(
            f"the arms have {', '.join(map(str, counts))} runs: each needs one for each seed"
        )
    first = arms[0][0]
    for run in (run for arm in arms for run in arm):
        if not (
            np.array_equal(run.image_ids, first.image_ids)
            and np.array_equal(run.category_ids, first.category_ids)
            and np.array_equal(run.object_ids, first.object_ids)
        ):
            raise ValueError("the runs are matched with different ground truths")


def _drawn(rng: np.random.Generator, resamples: int, images: int) -> np.ndarray:
    """(resamples, images) int32: how often each image is drawn in as many draws."""
    drawn = rng.integers(0, images, size=(resamples, images))
    flat = drawn + images * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * images)
    return counts.reshape(resamples, images).astype(np.int32)


def _bar(progress: str | None, total: int) -> tqdm:
    # None: on a terminal alone.
    disable = True if progress is None else None
    return tqdm(total=total, desc=progress, disable=disable, leave=False)
