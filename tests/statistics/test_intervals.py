from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from softpool_det.statistics.intervals import estimate

RNG = np.random.default_rng(0)


def half_width(found, confidence=0.95):
    low, high = found.interval(confidence)
    return (high - low) / 2


def test_one_seed_has_the_normal_interval_of_its_draws_around_its_value():
    draws = RNG.gamma(2.0, 0.5, (1, 4000))
    found = estimate(np.array([7.0]), draws)
    error = draws[0].std(ddof=1)
    assert found.interval(0.9) == pytest.approx(stats.norm.interval(0.9, 7.0, error))
    assert found.standard_error == found.image_standard_error == pytest.approx(error)
    assert found.seed_standard_error is None
    assert found.probability(7.0) == 0.5
    assert found.probability(7.0 + error) == pytest.approx(stats.norm.cdf(1))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_seeds_alone_give_students_interval(confidence):
    """Where images add nothing, the interval is the textbook's for a mean of few values."""
    values = np.array([1.0, 1.4, 1.9])
    found = estimate(values, np.repeat(values[:, None], 50, axis=1))
    error = values.std(ddof=1) / math.sqrt(3)
    expected = stats.t.interval(confidence, 2, loc=values.mean(), scale=error)
    assert found.interval(confidence) == pytest.approx(expected, rel=2e-2)
    assert found.seed_standard_error == pytest.approx(error)
    assert found.image_standard_error == 0
    assert found.probability(1.0) == pytest.approx(stats.t.cdf((1.0 - found.value) / error, 2), 0.1)


def test_what_image_sampling_explains_is_not_put_down_to_training():
    """Runs whose figures vary from seed to seed no more than their draws do."""
    own = RNG.normal(0, 1, (500, 3, 1))
    draws = own + RNG.normal(0, 1, (500, 3, 400))
    found = [estimate(o[:, 0], d) for o, d in zip(own, draws, strict=True)]
    squares = np.array([f.seed_standard_error**2 for f in found])
    # The floor at 0 leaves a little; without taking anything out it would be 1/3.
    assert squares.mean() < 0.16
    assert np.median(squares) == pytest.approx(0, abs=0.05)


def test_seeds_that_agree_by_chance_do_not_undo_image_noise():
    """Three seeds with one value, on images that alone make a standard error of 0.4."""
    values = np.array([2.0, 2.0, 2.0])
    draws = 2.0 + RNG.normal(0, 0.4 * math.sqrt(3), (3, 4000))
    found = estimate(values, draws)
    assert found.seed_standard_error == 0
    assert found.standard_error == pytest.approx(0.4, rel=0.05)
    assert half_width(found) >= 1.95 * found.image_standard_error


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("training", [0.0, 0.5, 1.0, 2.0, 10.0])
def test_intervals_of_normal_numbers_hold_the_truth(seeds, training):
    """Their variances: 0.3 by common images, 1 by each run's own, training's squared."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        common = rng.normal(0, math.sqrt(0.3), 201)
        own = rng.normal(0, 1, (seeds, 201))
        values = common[0] + own[:, 0] + training * rng.normal(size=seeds)
        found = estimate(values, values[:, None] + common[1:] + own[:, 1:])
        low, high = found.interval(0.95)
        held += low <= 0 <= high
    assert 0.89 < held / 300 < 0.992


@given(
    hnp.arrays(float, st.integers(2, 5), elements=st.floats(-50, 50)),
    st.floats(0.01, 20),
    st.floats(0, 20),
)
@example(values=np.zeros(4), common=1.0, own=2.0**-24)
def test_interval_and_standard_error_go_together(values, common, own):
    """No interval is shorter than its standard error lets a normal's be, or beyond Student's."""
    seeds = len(values)
    rng = np.random.default_rng(0)
    draws = values[:, None] + common * rng.normal(size=500) + own * rng.normal(size=(seeds, 500))
    found = estimate(values, draws)
    half = half_width(found)
    assert half >= 1.95 * found.image_standard_error
    student = -stats.t.ppf(0.025, seeds - 1)
    between = values.std(ddof=1) / math.sqrt(seeds)
    own_error = own / math.sqrt(seeds)
    assert half <= 1.2 * student * (found.image_standard_error + between + own_error)
    low, high = found.interval(0.95)
    assert low <= found.value <= high
    assert found.probability(low) == pytest.approx(0.025, abs=1e-4)
    assert found.probability(high) == pytest.approx(0.975, abs=1e-4)


def test_draws_without_anything_to_find_are_left_out():
    draws = np.array([[1.0, math.nan, 2.0, 3.0]])
    found = estimate(np.array([2.0]), draws)
    assert found.image_standard_error == 1.0
    nothing = estimate(np.array([math.nan, math.nan]), np.full((2, 5), math.nan))
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.interval(0.95)[0])
    assert math.isnan(nothing.probability(0))


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_image_that_carries_a_figure_says_nothing_about_others(seeds):
    # A draw finds the figure's only object, or it does not.
    draws = np.where(np.arange(10) % 3 == 0, math.nan, np.arange(seeds)[:, None] + 10.0)
    found = estimate(np.arange(seeds) + 10.0, draws)
    assert found.value == np.mean(np.arange(seeds) + 10.0)
    assert np.isnan(found.interval(0.95)).all()
    assert math.isnan(found.probability(0))


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_does_not_vary_is_certain(seeds):
    found = estimate(np.full(seeds, 2.0), np.full((seeds, 10), 2.0))
    assert found.interval(0.95) == (2.0, 2.0)
    assert [found.probability(x) for x in (1, 2, 3)] == [0, 0.5, 1]


def test_confidence_must_be_a_share():
    with pytest.raises(ValueError, match="confidence=95, must be between 0 and 1"):
        estimate(np.zeros(1), np.zeros((1, 3))).interval(95)
