"""How the report writes numbers. None and NaN both stand for a missing number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

MINUS = "\N{MINUS SIGN}"
MISSING = "n/a"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def plain(value: float | None, digits: int = 1) -> str:
    """12.3; `digits` after the point, a true minus sign."""
    return f"{value:,.{digits}f}".replace("-", MINUS) if is_number(value) else MISSING


def signed(value: float | None, digits: int = 2) -> str:
    """+0.60; zero has no sign, nor has what is rounded to it."""
    if not is_number(value):
        return MISSING
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", MINUS)


def count(value: int) -> str:
    """Format a count with commas for thousands."""
    return f"{value:,}"


def has_interval(entry: Mapping[str, Any]) -> bool:
    """Whether both ends of an entry's interval are numbers."""
    return is_number(entry["low"]) and is_number(entry["high"])


def interval(
    entry: Mapping[str, Any], digits: int = 1, sign: bool = False, between: str | None = None
) -> str:
    """Low and high of an entry, "39.1-41.0" or "+0.10 to +1.10"; empty where either is missing."""
    if not has_interval(entry):
        return ""
    write = signed if sign else plain
    # A dash beside a minus sign is hard to read.
    between = between or (" to " if sign or entry["low"] < 0 else "\N{EN DASH}")
    return f"{write(entry['low'], digits)}{between}{write(entry['high'], digits)}"


def excludes_zero(entry: Mapping[str, Any]) -> bool:
    """Whether all of the interval lies on one side of zero (before rounding).

    Of several differences it is the simultaneous interval that counts.
    """
    low, high = (entry.get(f"simultaneous_{end}", entry[end]) for end in ("low", "high"))
    return has_interval(entry) and (low > 0 or high < 0)


def p_value(value: float | None) -> str:
    """Format a p-value with three decimals."""
    if not is_number(value):
        return MISSING
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def probability(value: float | None) -> str:
    """How likely, in percent; never shown as a certainty.

    The bounds are those of the verdict's sentence.
    """
    if not is_number(value):
        return MISSING
    if value > 0.99:
        return "> 99 %"
    if value < 0.01:
        return "< 1 %"
    return f"{100 * value:.1f} %"


def true_minus(text: str) -> str:
    """Write a sentence with true minus signs; hyphens in words and names stay."""
    return re.sub(r"(?<=\s)-(?=\d)", MINUS, text)


def shorten(text: str, length: int, middle: bool = False) -> str:
    """One line of at most `length` characters, none of them a control character.

    With `middle` the end stays, by which names of one beginning differ.
    """
    text = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )
    if len(text) <= length:
        return text
    start = len(text) - (length - 1) // 2 if middle else len(text)
    return text[: length - 1 - len(text[start:])].rstrip() + "…" + text[start:]
