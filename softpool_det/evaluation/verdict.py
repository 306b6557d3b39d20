"""What a comparison says, in a sentence that claims no more than its interval."""

from __future__ import annotations

import math

# Published COCO runs of one config differ by 0.2 to 0.3 AP between seeds.
PUBLISHED_SPREAD = 0.3
_UNIT = {"bbox": "AP", "segm": "mask AP"}


def verdict(
    names: tuple[str, str],
    entry: dict,
    *,
    task: str,
    images: int,
    seeds: int,
    confidence: float,
    known_spread: float | None = None,
) -> str:
    """One of "is better", "is worse" and "no difference is shown", with what it rests on.

    A difference is shown where the interval does not hold 0 and, with a single seed, where it is
    also larger than what training runs of one config are known to differ by.

    Args:
        names: the baseline's and the candidate's.
        entry: of AP in "differences" of comparison.json; in percent, candidate minus baseline.
        task: "bbox" or "segm".
        images, seeds: how many.
        confidence: of the interval.
        known_spread: difference in AP, in percent, to expect of two training runs of one of these
            configs; by default what published COCO runs differ by.
    """
    baseline, candidate = names
    value, low, high = (entry[key] for key in ("value", "low", "high"))
    basis = f"{images:,} images, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    if value is None or math.isnan(value) or math.isnan(low):
        return f"No difference is shown: {_UNIT[task]} cannot be told ({basis})."
    spread = PUBLISHED_SPREAD if known_spread is None else known_spread
    shown = low > 0 or high < 0
    within = seeds == 1 and abs(value) <= spread
    interval = f"{100 * confidence:g} % interval {low:+.2f} to {high:+.2f}"
    figures = f"{interval}, P(better) {_chance(entry['p_better'])}; {basis}"
    if shown and not within:
        direction = "better" if value > 0 else "worse"
        # One run of each is all that was seen.
        which = (candidate, baseline) if seeds > 1 else (f"{candidate}'s run", f"{baseline}'s")
        text = (
            f"{which[0]} is {direction} than {which[1]} by"
            f" {abs(value):.2f} {_UNIT[task]} ({figures})."
        )
    else:
        text = (
            f"No difference is shown: {candidate} minus {baseline} is"
            f" {value:+.2f} {_UNIT[task]} ({figures})."
        )
    return text if seeds > 1 else f"{text} {_one_seed(value, spread, known_spread is not None)}"


def _one_seed(value: float, spread: float, measured: bool) -> str:
    if measured:
        known = f"runs of these configs are known to differ by {spread:.2f} AP between seeds"
    else:
        known = "COCO runs of one config differ by 0.2 to 0.3 AP between seeds"
    inside = (
        "this difference is inside that noise: it is no finding"
        if abs(value) <= spread
        else "a difference inside that noise would be no finding"
    )
    return f"With one seed, differences between training runs were not seen: {known}, and {inside}."


def _chance(share: float) -> str:
    """Two digits, but never a certainty that draws cannot give."""
    if share > 0.99:
        return "> 0.99"
    return "< 0.01" if share < 0.01 else f"{share:.2f}"
