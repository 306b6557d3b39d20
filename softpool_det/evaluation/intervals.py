"""Intervals and standard errors from draws of images and from seeds.

Two things make a figure vary: which images it was measured on, and how training went. Images act
in two ways: a set can be hard for all runs alike (the common part), or be kinder to one run than
to another that is equally good (the runs' own part). With S seeds the interval is made of

- the common part: the bootstrap's draws of the mean over seeds, shrunk to the variance that is
  left when the runs' own part is taken out of it, and
- Student's t with S - 1 degrees of freedom times the standard error over the seeds, which holds
  both training and the runs' own part. Drawing three seeds with replacement could not show that
  a fourth may lie outside of them.

Taking the runs' own part out of the seeds' variance instead, with 0 as the floor, gives shorter
intervals, but with three seeds they held the true difference only 88 to 92 % of the time where
training varied as much as the runs' own part and the common part was small: a variance from three
seeds is often far too low by chance, and then is cut to nothing. Only the standard errors are
split like that. benchmarks/coverage.py measures the coverage of the intervals as they are.
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
        seed_standard_error: with other training runs and endless images: the seeds' variance
            less what image sampling explains of it, at least 0, over S, the root of it. None with
            one seed.
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
    seed_error = None
    if len(values) > 1:
        own = float(np.var(draws - values[:, None], axis=0, ddof=1).mean())
        between = float(np.var(values, ddof=1))
        seed_error = math.sqrt(max(between - own, 0.0) / len(values))
        spread = _with_seeds(spread, own / len(values), between / len(values), len(values))
    tail = (1 - confidence) / 2
    # Of so many exchangeable draws: numpy's default is a little too short for few of them.
    low, high = np.quantile(spread, [tail, 1 - tail], method="weibull")
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


def _with_seeds(draws: np.ndarray, own: float, between: float, seeds: int) -> np.ndarray:
    """Draws of the mean over seeds, with the seeds' part put in.

    Args:
        draws: (resamples,) of the mean over seeds.
        own: the part of their variance that is the runs' own.
        between: squared standard error over the seeds.
        seeds: how many.
    """
    total = float(draws.var(ddof=1))
    common = math.sqrt(max(1 - own / total, 0.0)) if total else 0.0
    chances = (np.arange(_T_POINTS) + 0.5) / _T_POINTS
    shifts = math.sqrt(between) * stats.t.ppf(chances, seeds - 1)
    center = draws.mean()
    return (center + common * (draws[:, None] - center) + shifts).ravel()
