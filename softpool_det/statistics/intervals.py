"""Intervals and standard errors from draws of images and from seeds.

Two things make a figure vary: which images it was measured on, and how training went. Images act
in two ways: a set can be hard for all runs alike (variance A of the mean over seeds), or be kinder
to one run than to another that is equally good (B, each run's own). Training adds T to each run.
The mean over S seeds then has the variance A + (B + T) / S.

The bootstrap estimates A and B. The S values' variance, s^2, estimates B + T with S - 1
degrees of freedom, which three seeds say little about. The model is hierarchical (Gelman, Bayesian
Analysis 2006): with r^2 = T / B, the density of r is taken to be proportional to 1 / (c + r)
before the values are seen, and is multiplied by the likelihood of s^2. That density has the tail of
the reference prior, with which the interval is Student's where training is what matters, and
leaves room for training that hardly varies. Intervals are quantiles of the normal distributions
with the variances A + B (1 + r^2) / S, mixed by that density.

c is a compromise, chosen on normal numbers and on simulated detectors other than those by which
docs/compare.md judges the intervals: with a smaller one they are nearer to their confidence where
training does not vary, and further from it where r is about 2 (tests/statistics/test_intervals.py
counts on normal numbers). No form can be right at both ends with three seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

_C = 0.02
# r, on a grid that is fine where the density changes.
_RATIOS = np.concatenate([[0.0], np.logspace(-2, 6, 240)])
# Of the trapezoids around them.
_WIDTHS = (np.diff(_RATIOS, append=_RATIOS[-1]) + np.diff(_RATIOS, prepend=0.0)) / 2
# Of the values' own size: differences below are rounding.
_TINY = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty, all in the unit of the draws.

    Attributes:
        value: mean over seeds, on the images as they are.
        by_seed: (S,), each seed's.
        standard_error: of `value`, images and seeds together.
        image_standard_error: with other images and the same trained detectors.
        seed_standard_error: with other training runs and endless images: the seeds' variance
            less what image sampling explains of it, at least 0, over S, the root of it. None with
            one seed.
        own_standard_error: the part of `image_standard_error` that is each run's own, B / S, the
            root of it. None with one seed.
        deviations, weights: (K,) standard deviations that the mean may have, and how likely each.
    """

    value: float
    by_seed: np.ndarray
    standard_error: float
    image_standard_error: float
    seed_standard_error: float | None
    own_standard_error: float | None
    deviations: np.ndarray
    weights: np.ndarray

    def probability(self, number: float) -> float:
        """How likely the true figure is below `number`; a half at the value."""
        if math.isnan(self.standard_error):
            return math.nan
        distance = number - self.value
        if self.standard_error == 0:
            return 0.5 + 0.5 * np.sign(distance)
        return float(self.weights @ stats.norm.cdf(distance / self.deviations))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Low and high.

        Raises:
            ValueError: confidence out of range.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence={confidence}, must be between 0 and 1")
        if math.isnan(self.standard_error):
            return math.nan, math.nan
        half = float(self._half_width((1 - confidence) / 2))
        return self.value - half, self.value + half

    def _half_width(self, tail: float) -> float:
        if self.standard_error == 0:
            return 0.0
        normal = float(-stats.norm.ppf(tail))
        low, high = normal * self.deviations.min(), normal * self.deviations.max()
        if high - low <= 1e-9 * high:
            return high

        def beyond(half: float) -> float:
            return float(self.weights @ stats.norm.sf(half / self.deviations)) - tail

        # Ends that are the root but for rounding have one sign.
        if beyond(low) <= 0:
            return low
        if beyond(high) >= 0:
            return high
        return optimize.brentq(beyond, low, high, rtol=1e-9)


def estimate(values: np.ndarray, draws: np.ndarray) -> Estimate:
    """Estimate the mean over seeds, and how it may vary.

    Args:
        values: (S,) float64, on the images as they are.
        draws: (S, resamples) float64, on resampled images, the same draws for all seeds. NaN
            where a draw had nothing to find: those are ignored. Where all others agree, the few
            images that carry the figure say nothing about other images: uncertainties are NaN.
    """
    found = np.isfinite(draws).all(axis=0)
    draws = draws[:, found]
    value, seeds = float(np.mean(values)), len(values)
    of_images = float(draws.mean(axis=0).var(ddof=1)) if draws.shape[1] > 1 else math.nan
    if of_images <= (_TINY * max(1.0, abs(value))) ** 2:
        of_images = 0.0 if found.all() else math.nan
    if not math.isfinite(value + of_images):
        nan, unknown = math.nan, None if seeds == 1 else math.nan
        return Estimate(value, values, nan, nan, unknown, unknown, np.ones(1), np.ones(1))
    if seeds == 1:
        error = math.sqrt(of_images)
        return Estimate(value, values, error, error, None, None, np.array([error]), np.ones(1))
    own = float(np.var(draws - values[:, None], axis=0, ddof=1).mean())
    between = float(np.var(values, ddof=1))
    variances, weights = _run_variances(own, between, seeds - 1)
    of_seeds = max(between - own, 0.0) / seeds
    deviations = np.sqrt(of_images + (variances - own) / seeds)
    return Estimate(
        value=value,
        by_seed=values,
        standard_error=math.sqrt(of_images + of_seeds),
        image_standard_error=math.sqrt(of_images),
        seed_standard_error=math.sqrt(of_seeds),
        own_standard_error=math.sqrt(own / seeds),
        # Without zeros, which nothing can be divided by.
        deviations=np.maximum(deviations, _TINY * deviations.max()),
        weights=weights,
    )


def _run_variances(own: float, between: float, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Values that B + T may have, and how likely each of them is."""
    # Where images add nothing, r has no scale: that of the values stands for it.
    scale = max(own, 1e-6 * between)
    if scale == 0:
        return np.zeros(1), np.ones(1)
    variances = scale * (1 + _RATIOS**2)
    density = -np.log(_C + _RATIOS)
    density -= degrees / 2 * (np.log(variances) + between / variances)
    weights = np.exp(density - density.max()) * _WIDTHS
    return variances, weights / weights.sum()
