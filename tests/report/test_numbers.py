import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpool_det.report.formatting import (
    excludes_zero,
    interval,
    p_value,
    plain,
    probability,
    shorten,
    signed,
)

FINITE = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_missing_is_said_to_be(missing):
    for write in (plain, signed, p_value, probability):
        assert write(missing) == "n/a"
    assert interval({"low": missing, "high": 1.0}) == ""
    assert not excludes_zero({"low": missing, "high": -1.0})


@given(FINITE, st.integers(0, 4))
def test_numbers_read_back_to_their_rounding(value, digits):
    for text in (plain(value, digits), signed(value, digits)):
        assert "-" not in text
        back = float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))
        assert back == pytest.approx(round(value, digits), abs=1e-9)


@given(FINITE)
def test_a_sign_stands_before_all_but_zero(value):
    text = signed(value)
    assert (text[0] in "+\N{MINUS SIGN}") == (re.search("[1-9]", text) is not None)


@given(FINITE, FINITE)
def test_an_interval_excludes_zero_on_one_side_only(one, other):
    low, high = sorted((one, other))
    assert excludes_zero({"low": low, "high": high}) == (not low <= 0 <= high)


def test_intervals_are_told_from_minus_signs():
    assert interval({"low": 39.14, "high": 41.0}) == "39.1\N{EN DASH}41.0"
    assert interval({"low": -0.1, "high": 1.1}, 2, True) == "\N{MINUS SIGN}0.10 to +1.10"


def test_no_probability_is_certain():
    assert (probability(1.0), probability(0.0)) == ("> 99 %", "< 1 %")
    assert (probability(0.973), p_value(0.0002), p_value(0.0421)) == ("97.3 %", "< 0.001", "0.042")


@given(st.text(), st.integers(2, 40), st.booleans())
def test_shortened_text_is_one_line(text, length, middle):
    short = shorten(text, length, middle)
    assert len(short) <= length
    assert short.splitlines() in ([], [short])
