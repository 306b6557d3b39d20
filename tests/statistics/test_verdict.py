from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpool_det.statistics.intervals import Estimate
from softpool_det.statistics.verdict import judge, verdict

CLAIMS = ("is better than", "is worse than", "are equivalent within", "No difference is shown")


def judged(value, error, *, seeds=3, confidence=0.95, **options):
    """Of a figure whose uncertainty is normal."""
    found = Estimate(
        value, np.full(seeds, value), error, error, None, None, np.array([error]), np.ones(1)
    )
    return judge(found, confidence=confidence, **options)


def said(value, error, *, task="bbox", **options):
    return verdict(("stock", "SoftPool"), judged(value, error, **options), task=task, images=5000)


def test_better_with_its_uncertainty():
    assert said(0.62, 0.26) == (
        "SoftPool is better than stock by 0.62 AP"
        " (95 % interval +0.11 to +1.13, P(better) > 0.99; 5,000 images, 3 seeds)."
    )


def test_worse_and_masks():
    assert said(-0.62, 0.26, task="segm").startswith("SoftPool is worse than stock by 0.62 mask AP")


@pytest.mark.parametrize("error", [0.2, 0.11])
def test_an_interval_with_zero_shows_nothing(error):
    assert said(0.2, error).startswith("No difference is shown: SoftPool minus stock is +0.20 AP")


@pytest.mark.parametrize(
    ("value", "error", "decision", "words"),
    [
        (0.1, 0.1, "equivalent", "either way, is ruled out"),
        (0.1, 0.5, "undecided", "That it is worse by 0.5 AP is not ruled out"),
        (0.4, 0.4, "undecided", "It is not worse by 0.5 AP or more; better by"),
        (1.0, 0.1, "better", "It is better by at least 0.5 AP."),
        (-1.0, 0.1, "worse", "It is worse by at least 0.5 AP."),
        (0.6, 0.2, "better", "It is not worse by 0.5 AP or more; better by"),
        (-0.6, 0.2, "worse", "That it is worse by 0.5 AP is not ruled out"),
        # As small as it is, it is shown.
        (0.3, 0.1, "better", "either way, is ruled out"),
    ],
)
def test_margin(value, error, decision, words):
    assert judged(value, error, margin=0.5).decision == decision
    assert words in said(value, error, margin=0.5)


def test_two_one_sided_tests_take_the_90_percent_interval():
    assert judged(0.0, 0.5 / 1.6449, margin=0.5).within_margin
    assert not judged(0.0, 0.5 / 1.6448, margin=0.5).within_margin


def test_margin_must_be_positive():
    for margin in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"margin={margin}, must be a number above 0"):
            judged(0, 1, margin=margin)


def test_several_differences_are_judged_together():
    alone, together = judged(1.0, 0.48), judged(1.0, 0.48, among=5)
    assert alone.decision == "better"
    assert together.decision == "undecided"
    assert together.confidence == pytest.approx(0.99)
    assert "95 % interval, simultaneous with 4 more, -0.24 to +2.24" in said(1.0, 0.48, among=5)


def test_one_seed_says_what_it_has_not_seen():
    outside = said(2.0, 0.5, seeds=1)
    assert outside.startswith("SoftPool's run is better than stock's by 2.00 AP")
    assert "5,000 images, 1 seed)" in outside
    assert "differences between training runs were not seen" in outside
    assert "0.2 to 0.3 AP between seeds" in outside


def test_one_seed_inside_the_noise_is_no_finding():
    inside = said(0.25, 0.07, seeds=1)
    assert inside.startswith("No difference is shown")
    assert inside.endswith("this difference is inside that noise, so it is not a finding.")
    measured = said(2.0, 0.5, seeds=1, known_spread=11.9)
    assert measured.startswith("No difference is shown")
    assert "such runs are known to differ by up to 11.90 AP" in measured
    # One run each cannot show that two ways of training are alike.
    assert judged(0.0, 0.01, seeds=1, margin=0.5).decision == "undecided"
    assert "ruled out" not in said(0.0, 0.01, seeds=1, margin=0.5)


def test_nothing_to_find():
    assert said(math.nan, math.nan).startswith("No difference is shown: AP is undefined")


def test_too_few_images_for_an_interval():
    text = said(10.0, math.nan)
    assert text.startswith("No difference is shown: SoftPool minus stock is +10.00 AP, and too few")


@given(st.floats(-100, 100), st.floats(0, 50), st.integers(1, 5), st.sampled_from([None, 0.5]))
def test_makes_one_claim_and_none_beyond_the_interval(value, error, seeds, margin):
    found = judged(value, error, seeds=seeds, margin=margin)
    text = said(value, error, seeds=seeds, margin=margin)
    assert sum(claim in text for claim in CLAIMS) == 1
    if found.low <= 0 <= found.high:
        assert not any(claim in text for claim in CLAIMS[:2])
