from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from softpool_det.evaluation.intervals import estimate

RNG = np.random.default_rng(0)


def test_one_seed_has_the_percentiles_of_its_draws_around_its_value():
    draws = RNG.gamma(2.0, 0.5, (1, 4000))
    found = estimate(np.array([7.0]), draws, 0.9)
    moved = draws - draws.mean() + 7.0
    assert found.low == pytest.approx(np.quantile(moved, 0.05, method="weibull"))
    assert found.high == pytest.approx(np.quantile(moved, 0.95, method="weibull"))
    assert found.standard_error == found.image_standard_error == draws[0].std(ddof=1)
    assert found.seed_standard_error is None


def test_seeds_alone_give_students_interval():
    """Where images add nothing, the interval is the textbook's for a mean of few values."""
    values = np.array([1.0, 1.4, 1.9])
    found = estimate(values, np.repeat(values[:, None], 50, axis=1), 0.95)
    error = values.std(ddof=1) / math.sqrt(3)
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=error)
    assert (found.low, found.high) == pytest.approx(expected, rel=2e-2)
    assert found.seed_standard_error == pytest.approx(error)
    assert found.image_standard_error == pytest.approx(0, abs=1e-12)


def test_what_image_sampling_explains_is_not_put_down_to_training():
    """Runs whose figures vary from seed to seed no more than their draws do."""
    own = RNG.normal(0, 1, (500, 3, 1))
    draws = own + RNG.normal(0, 1, (500, 3, 400))
    found = [estimate(o[:, 0], d, 0.95) for o, d in zip(own, draws, strict=True)]
    squares = np.array([f.seed_standard_error**2 for f in found])
    # The floor at 0 leaves a little; without taking anything out it would be 1/3.
    assert squares.mean() < 0.16
    assert np.median(squares) == pytest.approx(0, abs=0.05)


def test_seeds_that_agree_by_chance_do_not_undo_image_noise():
    """Three seeds with one value, on images that alone make a standard error of 0.4."""
    values = np.array([2.0, 2.0, 2.0])
    draws = 2.0 + RNG.normal(0, 0.4 * math.sqrt(3), (3, 4000))
    found = estimate(values, draws, 0.95)
    assert found.seed_standard_error == 0
    assert found.standard_error == pytest.approx(0.4, rel=0.05)
    assert found.high - found.low >= 2 * 1.9 * found.image_standard_error


@given(
    hnp.arrays(float, st.integers(2, 5), elements=st.floats(-50, 50)),
    st.floats(0.01, 20),
    st.floats(0, 20),
)
def test_interval_and_standard_error_go_together(values, common, own):
    """No interval is shorter than its standard error lets a normal's be, or beyond Student's."""
    seeds = len(values)
    rng = np.random.default_rng(0)
    draws = values[:, None] + common * rng.normal(size=500) + own * rng.normal(size=(seeds, 500))
    found = estimate(values, draws, 0.95)
    half = (found.high - found.low) / 2
    assert half >= 1.7 * found.image_standard_error
    student = -stats.t.ppf(0.025, seeds - 1)
    between = values.std(ddof=1) / math.sqrt(seeds)
    assert half <= 1.2 * student * math.hypot(found.image_standard_error, between)
    assert found.low <= found.value <= found.high


def test_draws_without_anything_to_find_are_left_out():
    draws = np.array([[1.0, math.nan, 2.0, 3.0]])
    found = estimate(np.array([2.0]), draws, 0.95)
    assert found.image_standard_error == 1.0
    nothing = estimate(np.array([math.nan, math.nan]), np.full((2, 5), math.nan), 0.95)
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)


def test_ties_with_zero_count_half():
    assert estimate(np.zeros(1), np.zeros((1, 10)), 0.95).p_positive == 0.5


def test_confidence_must_be_a_share():
    with pytest.raises(ValueError, match="confidence=95, must be between 0 and 1"):
        estimate(np.zeros(1), np.zeros((1, 3)), 95)
