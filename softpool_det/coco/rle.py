"""COCO's compressed run lengths, checked without building the mask."""

from __future__ import annotations

from functools import cache

import numpy as np

_OK, _CHARACTER, _TRUNCATED, _LONG, _NEGATIVE, _SUM = range(6)
_PROBLEMS = {
    _CHARACTER: "holds a character outside '0' to 'o'",
    _TRUNCATED: "ends in the middle of a number",
    _LONG: "holds a number of more than 35 bits",
    _NEGATIVE: "holds a negative run length",
    _SUM: "holds run lengths that do not add up to height x width",
}

# Loading the compiler takes a second, which a few masks are not worth.
_plain_bytes = 100_000


def counts_problem(counts: bytes, pixels: int) -> str | None:
    """Return what is wrong with the `counts` of a compressed RLE, or None.

    pycocotools decodes whatever it gets, past the end of a broken string if need be, so broken
    ones have to be found before.

    Args:
        counts: the string as bytes. It is read as cocoapi's maskApi.c does (rleFrString): numbers
            in groups of 5 bits, lowest first, bit 6 saying that more follow, 48 added to each; from
            the fourth number on, a number is the difference to the one two before it.
        pixels: height x width of the mask.
    """
    global _plain_bytes
    _plain_bytes -= len(counts)
    if _plain_bytes > 0:
        return _PROBLEMS.get(_check(counts, pixels))
    return _PROBLEMS.get(_compiled()(np.frombuffer(counts, np.uint8), pixels))


@cache
def _compiled():
    from numba import njit

    return njit(cache=True)(_check)


def _check(text, pixels):
    before, last = 0, 0
    total, runs, place = 0, 0, 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place == len(text):
                return _TRUNCATED
            if shift == 35:
                return _LONG
            group = int(text[place]) - 48
            if group < 0 or group > 63:
                return _CHARACTER
            value |= (group & 31) << shift
            shift += 5
            place += 1
            more = group & 32 != 0
        if group & 16:
            value -= 1 << shift
        if runs > 2:
            value += before
        if value < 0:
            return _NEGATIVE
        before, last = last, value
        total += value
        runs += 1
    return _OK if total == pixels else _SUM
