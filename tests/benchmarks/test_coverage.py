"""Intervals hold the known difference of simulated pairs as often as they say.

benchmarks/coverage.py does the same at length.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulated.coverage import measure_coverage
from simulated.detectors import Population, detect, draw_images

WANTED = (0.93, 0.97)


@pytest.mark.parametrize(
    ("seeds", "seed_spread", "trials"), [(1, 0.0, 150), (3, 0.04, 70)], ids=["1 seed", "3 seeds"]
)
def test_intervals_cover_the_true_difference(seeds, seed_spread, trials):
    """The share is one that a true coverage of 93 to 97 % can give (99.8 % of the time).

    With so few pairs that alone would let intervals pass that are a quarter too narrow. What the
    reported standard errors are to the differences' real spread tells those apart.
    """
    population = Population(
        categories=1, objects=3, false_positives=3, seed_spread=seed_spread, common_seed_spread=0.03
    )
    if seeds == 1:
        population = Population(categories=1, objects=3, false_positives=3)
    # The truth is that over 20,000 images: of one population, or of 20 runs with 1,000 each.
    sizes = {"images": 120, "truth_images": 20_000 if seeds == 1 else 1_000}
    found = measure_coverage(
        population, **sizes, seeds=seeds, trials=trials, resamples=150, random_seed=1
    )
    assert (found.truth > 0.01).all()
    lowest, highest = (
        stats.binom.ppf(chance, trials, share) / trials
        for chance, share in zip((0.001, 0.999), WANTED, strict=True)
    )
    # AP and AR; those by size rest on a third of the objects.
    for metric in (0, 6):
        assert lowest <= found.covered[metric] <= highest
    ratio = found.standard_error / found.spread
    tolerance = 2.9 / np.sqrt(2 * trials)
    for metric in (0, 1, 2, 6):
        assert 1 - tolerance < ratio[metric] < 1 + tolerance


def test_arms_meet_the_same_images():
    """So a difference is known better than its two parts would let one think."""
    population = Population(categories=1)
    rng = np.random.default_rng(0)
    images = draw_images(population, 500, rng)
    runs = [detect(population, images, quality, rng) for quality in population.qualities]
    hits = [np.bincount(r.image[r.state[0, 0] == 1], minlength=500) for r in runs]
    assert np.corrcoef(hits)[0, 1] > 0.5
    np.testing.assert_array_equal(runs[0].object_ids, runs[1].object_ids)
