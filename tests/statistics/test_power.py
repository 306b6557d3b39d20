"""Seeds that a difference takes, against simulated comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpool_det.statistics.differences import holm
from softpool_det.statistics.intervals import estimate
from softpool_det.statistics.power import power_of, seeds_needed, variances


def comparison(rng, difference, of_images, own, training, seeds, draws=400):
    """The estimate of one comparison of normal numbers."""
    common = rng.normal(0, math.sqrt(of_images))
    values = difference + common + rng.normal(0, math.sqrt(own + training), seeds)
    drawn = rng.normal(0, math.sqrt(of_images), draws) + rng.normal(
        0, math.sqrt(own), (seeds, draws)
    )
    return estimate(values, values[:, None] + drawn)


@pytest.mark.parametrize(("of_images", "own", "training"), [(0.01, 0.05, 0.3), (0.05, 0.1, 0.0)])
def test_so_many_seeds_show_the_difference_with_80_percent(of_images, own, training):
    seeds = seeds_needed(1.0, of_images, own + training, 0.95)
    rng = np.random.default_rng(0)
    shown = np.mean(
        [
            comparison(rng, 1.0, of_images, own, training, seeds).interval(0.95)[0] > 0
            for _ in range(400)
        ]
    )
    # Seeds are whole, and few of them: more than 80 % may be shown.
    assert 0.74 < shown <= 1


def test_variances_are_found_again():
    rng = np.random.default_rng(1)
    found = comparison(rng, 1.0, 0.04, 0.1, 0.5, 200, draws=4000)
    entry = {
        "by_seed": found.by_seed.tolist(),
        "image_standard_error": found.image_standard_error,
        "seed_standard_error": found.seed_standard_error,
        "own_standard_error": found.own_standard_error,
    }
    of_images, of_run = variances(entry)
    assert of_images == pytest.approx(0.04, rel=0.1)
    assert of_run == pytest.approx(0.6, rel=0.3)
    assert power_of(entry, 100, 0.95)[1] == {
        "difference": 1.0,
        "seeds": seeds_needed(1.0, of_images, of_run, 0.95),
        "images": None,
    }


def test_images_that_vary_too_much_are_reported():
    entry = {"by_seed": [0.9, 1.1], "image_standard_error": 1.0, "seed_standard_error": 0.1}
    half, one = power_of(entry, 100, 0.95)
    assert half["seeds"] is None
    assert one["seeds"] is None
    assert half["images"] == pytest.approx(4 * one["images"], rel=0.01)
    # (1.96 + 0.84)^2 times as many would do.
    assert one["images"] == pytest.approx(100 * 2.8**2, rel=0.02)


def test_seeds_that_agree_by_chance_do_not_make_the_images_part_large():
    """Images vary each run by itself, by 1, and all alike not at all: more seeds do help."""
    rng = np.random.default_rng(2)
    values = np.array([1.0, 1.01, 1.02])
    found = estimate(values, values[:, None] + rng.normal(0, 1, (3, 4000)))
    entry = {
        "by_seed": values.tolist(),
        "image_standard_error": found.image_standard_error,
        "seed_standard_error": found.seed_standard_error,
        "own_standard_error": found.own_standard_error,
    }
    of_images, of_run = variances(entry)
    assert of_images < 0.02
    assert of_run == pytest.approx(1, rel=0.1)


def test_one_seed_tells_nothing():
    entry = {"by_seed": [1.0], "image_standard_error": 1.0, "seed_standard_error": None}
    assert power_of(entry, 100, 0.95) == []


@given(st.floats(0.01, 10), st.floats(0, 10), st.floats(0, 10))
def test_smaller_differences_take_more_seeds(difference, of_images, of_run):
    few = seeds_needed(2 * difference, of_images, of_run, 0.95)
    many = seeds_needed(difference, of_images, of_run, 0.95)
    assert many is None or few <= many


def test_holm():
    """The example of Holm's own procedure: 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1."""
    found = holm(np.array([0.04, 0.01, 0.03, 0.02]))
    np.testing.assert_allclose(found, [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, math.nan, 0.9])), [1.0, math.nan, 1.0])
