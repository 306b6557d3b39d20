"""Intervals and standard errors from draws of images and from seeds.

Two things make a figure vary: which images it was measured on, and how training went. Images act
in two ways: a set can be hard for all runs alike, or be kinder to one run than to another that is
equally good (the runs' own part, which differs between seeds as training does). With S seeds

- the standard error is that of the images by the bootstrap and that of the seeds, together. The
  seeds' is what they differ by beyond the runs' own part, at least 0: seeds that agree by chance
  do not undo what image sampling is known to add;
- the interval's half width is the standard error times a quantile between the normal's and
  Student's with S - 1 degrees of freedom, weighted by the parts of the variance that the
  bootstrap and the S values tell (after Cochran and Cox, Experimental Designs, 1950).

How much of the runs' own part is taken out of the S values' share decides how wide that is. Half
was chosen for its coverage in simulations of normal numbers (not kept in the tree): with
all of it, intervals held a true difference only 90 % of the time in simulations of normal numbers
with three seeds, where training varied and images hardly did; with none, 99 % where training did
not vary. With half of it they held 93 to 98 %, with five seeds 94 to 98 %. (Drawing seeds with
replacement could not show that a fourth may lie outside of three.) benchmarks/coverage.py measures
the coverage on simulated detectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Equally likely values that stand for a normal distribution where the draws do not differ.
_POINTS = 2000


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
        p_positive: share of the moved and stretched draws above 0, half of those that are 0.
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

    The draws are moved so that their mean is the value, and stretched to the width that images
    and seeds make together. Moved, because AP of a set that holds images twice is higher than
    that of one that does not: percentiles of the draws as they are can lie above the value itself.

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
    means = draws.mean(axis=0)
    image_error = float(means.std(ddof=1))
    tail = (1 - confidence) / 2
    normal = float(-stats.norm.ppf(tail))
    error, quantile, seed_error = image_error, normal, None
    if len(values) > 1:
        own = float(np.var(draws - values[:, None], axis=0, ddof=1).mean()) / len(values)
        between = float(np.var(values, ddof=1)) / len(values)
        seed_error = math.sqrt(max(between - own, 0.0))
        error = math.hypot(image_error, seed_error)
        few = min(max(between - own / 2, 0.0) / error**2, 1.0) if error else 0.0
        quantile += few * (float(-stats.t.ppf(tail, len(values) - 1)) - normal)
    spread = value + error * quantile / normal * _shape(means, image_error)
    # Of so many exchangeable draws: numpy's default is a little too short for few of them.
    low, high = np.quantile(spread, [tail, 1 - tail], method="weibull")
    return Estimate(
        value=value,
        by_seed=values,
        low=float(low),
        high=float(high),
        standard_error=error,
        image_standard_error=image_error,
        seed_standard_error=seed_error,
        p_positive=float(np.mean(spread > 0) + np.mean(spread == 0) / 2),
    )


def _shape(means: np.ndarray, error: float) -> np.ndarray:
    """The draws in standard errors around their mean; a normal's where they do not differ."""
    if error > 1e-12 * max(1.0, abs(float(means[0]))):
        return (means - means.mean()) / error
    return stats.norm.ppf((np.arange(_POINTS) + 0.5) / _POINTS)
