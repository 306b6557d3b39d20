from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpool_det.evaluation.verdict import verdict

CLAIMS = ("is better than", "is worse than", "No difference is shown")


def said(value, low, high, *, seeds=3, known_spread=None, task="bbox"):
    entry = {"value": value, "low": low, "high": high, "p_better": 0.97}
    return verdict(
        ("stock", "SoftPool"),
        entry,
        task=task,
        images=5000,
        seeds=seeds,
        confidence=0.95,
        known_spread=known_spread,
    )


def test_better_with_its_uncertainty():
    assert said(0.62, 0.1, 1.13) == (
        "SoftPool is better than stock by 0.62 AP"
        " (95 % interval +0.10 to +1.13, P(better) 0.97; 5,000 images, 3 seeds)."
    )


def test_worse_and_masks():
    assert said(-0.62, -1.1, -0.1, task="segm").startswith("SoftPool is worse than stock by 0.62 m")


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.4), (0.0, 0.4), (-0.4, 0.0)])
def test_an_interval_with_zero_shows_nothing(low, high):
    assert said(0.2, low, high).startswith("No difference is shown: SoftPool minus stock is +0.20")


def test_one_seed_says_what_it_has_not_seen():
    outside = said(2.0, 1.0, 3.0, seeds=1)
    assert outside.startswith("SoftPool's run is better than stock's by 2.00 AP")
    assert "5,000 images, 1 seed)" in outside
    assert "differences between training runs were not seen" in outside
    assert "0.2 to 0.3 AP between seeds" in outside


def test_one_seed_inside_the_noise_is_no_finding():
    inside = said(0.25, 0.1, 0.4, seeds=1)
    assert inside.startswith("No difference is shown")
    assert inside.endswith("this difference is inside that noise: it is no finding.")
    measured = said(2.0, 1.0, 3.0, seeds=1, known_spread=11.9)
    assert measured.startswith("No difference is shown")
    assert "these configs are known to differ by 11.90 AP" in measured


def test_nothing_to_find():
    assert said(math.nan, math.nan, math.nan).startswith(
        "No difference is shown: AP cannot be told"
    )


number = st.floats(-100, 100)


@given(number, number, number, st.integers(1, 5))
def test_makes_one_claim_and_none_beyond_the_interval(a, b, c, seeds):
    low, value, high = sorted([a, b, c])
    text = said(value, low, high, seeds=seeds)
    assert sum(claim in text for claim in CLAIMS) == 1
    if low <= 0 <= high:
        assert CLAIMS[2] in text
