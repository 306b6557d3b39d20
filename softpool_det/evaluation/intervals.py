"""Intervals and standard errors from draws of images and from seeds.

Two things make a figure vary: which images it was measured on, and how training went. For the
first there are the draws of `bootstrap`. For the second there are the S seeds: their variance on
the full set, less the part that image sampling explains (two runs differ on a finite set of
images even where they are equally good), at least 0, over S. The seeds' part of the interval
is a Student t with S - 1 degrees of freedom: drawing three seeds with replacement could not show
that a fourth may lie outside of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Equally likely values that stand for Student's t, put on top of every draw of the images.
_T_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty, all in the unit of the draws.

    Attributes:
        value: mean over seeds, on the images as they are.
        by_seed: (S,), each seed's.
        low, high: ends of the interval.
        standard_error: of `value`, images and seeds together.
        image_standard_error: with other images and the same trained detectors.
        seed_standard_error: with other seeds and the same images; None with one seed.
        p_positive: share of the draws above 0, half of those that are 0.
    """

    value: float
    by_seed: np.ndarray
    low: float
    high: float
    standard_error: float
    image_standard_error: float
    seed_standard_error: float | None
    p_positive: float


def estimate(values: np.ndarray, draws: np.ndarray, confidence: float) -> Estimate:
    """Percentile interval (Efron and Tibshirani 1993, chapter 13) of the mean over seeds.

    Args:
        values: (S,) float64, on the images as they are.
        draws: (S, resamples) float64, on images drawn anew, the same draws for all seeds. NaN
            where a draw had nothing to find: those are left out.
        confidence: between 0 and 1.

    Raises:
        ValueError: confidence out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}, must be between 0 and 1")
    draws = draws[:, np.isfinite(draws).all(axis=0)]
    value = float(np.mean(values))
    if not math.isfinite(value) or draws.shape[1] < 2:
        nan = math.nan
        seeds = None if len(values) == 1 else nan
        return Estimate(value, values, nan, nan, nan, nan, seeds, nan)
    spread = draws.mean(axis=0)
    image_error = float(spread.std(ddof=1))
    seed_error = seed_standard_error(values, draws)
    if seed_error:
        chances = (np.arange(_T_POINTS) + 0.5) / _T_POINTS
        shifts = seed_error * stats.t.ppf(chances, len(values) - 1)
        spread = (spread[:, None] + shifts).ravel()
    tail = (1 - confidence) / 2
    low, high = np.quantile(spread, [tail, 1 - tail])
    return Estimate(
        value=value,
        by_seed=values,
        low=float(low),
        high=float(high),
        standard_error=math.hypot(image_error, seed_error or 0.0),
        image_standard_error=image_error,
        seed_standard_error=seed_error,
        p_positive=float(np.mean(spread > 0) + np.mean(spread == 0) / 2),
    )


def seed_standard_error(values: np.ndarray, draws: np.ndarray) -> float | None:
    """Standard error of the mean over seeds that is due to training; None with one seed.

    Args:
        values, draws: as for `estimate`, without NaN.
    """
    count = len(values)
    if count == 1:
        return None
    explained = np.var(draws - values[:, None], axis=0, ddof=1).mean()
    between = np.var(values, ddof=1) - explained
    return math.sqrt(max(between, 0.0) / count)
