"""What a comparison says, in a sentence that claims no more than its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softpool_det.statistics.intervals import Estimate

# Published COCO runs of one config differ by 0.2 to 0.3 AP between seeds.
PUBLISHED_SPREAD = 0.3
_UNIT = {"bbox": "AP", "segm": "mask AP"}


@dataclass(frozen=True)
class Judgement:
    """What is shown of a difference in AP, in percent, candidate minus baseline.

    Attributes:
        decision: "better", "worse", "equivalent" (within the margin) or "undecided".
        value, p_better: the difference, and how likely it is above 0.
        low, high: ends of the interval that decides.
        confidence: of that interval, each by itself.
        seeds: how many.
        among: how many differences are judged together.
        margin: that was asked about; None for none.
        within_margin: whether the difference is shown to be smaller than the margin; None without.
        no_worse: whether it is shown not to be worse by the margin; None without.
        known_spread: what two runs are known to differ by; None: what published ones do.
    """

    decision: str
    value: float
    p_better: float
    low: float
    high: float
    confidence: float
    seeds: int
    among: int
    margin: float | None
    within_margin: bool | None
    no_worse: bool | None
    known_spread: float | None


def simultaneous(confidence: float, among: int) -> float:
    """Return the confidence that `among` intervals need to hold jointly with `confidence`.

    Bonferroni's, which is right however the differences depend on each other.
    """
    return 1 - (1 - confidence) / among


def check_margin(margin: float | None) -> None:
    """Raise ValueError unless a margin is a number above 0, or None."""
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin={margin}, must be a number above 0")


def judge(
    found: Estimate,
    *,
    confidence: float,
    among: int = 1,
    margin: float | None = None,
    known_spread: float | None = None,
) -> Judgement:
    """Decide by intervals.

    A difference is shown if the interval, simultaneous with those of the other differences, does
    not hold 0. With a single seed it must also be larger than what training runs of one config are
    known to differ by. It is equivalent where two one-sided tests at 1 - `confidence`
    show it to lie within the margin (Schuirmann 1987).

    Args:
        found: the difference, in percent.
        confidence: of all differences together.
        among: how many there are.
        margin: largest difference in AP that would not matter; None: not asked.
        known_spread: difference in AP to expect of two training runs of one of these configs; by
            default what published COCO runs differ by.

    Raises:
        ValueError: a margin that is not above 0.
    """
    check_margin(margin)
    each = simultaneous(confidence, among)
    low, high = found.interval(each)
    spread = PUBLISHED_SPREAD if known_spread is None else known_spread
    seeds = len(found.by_seed)
    inside_noise = seeds == 1 and abs(found.value) <= spread
    within = no_worse = None
    if margin is not None:
        least, most = found.interval(1 - 2 * (1 - each))
        within = bool(-margin < least and most < margin)
        no_worse = bool(-margin < least)
    decision = "undecided"
    if low > 0 and not inside_noise:
        decision = "better"
    elif high < 0 and not inside_noise:
        decision = "worse"
    elif within and seeds > 1:
        decision = "equivalent"
    return Judgement(
        decision,
        found.value,
        1 - found.probability(0),
        low,
        high,
        each,
        seeds,
        among,
        margin,
        within,
        no_worse,
        known_spread,
    )


def verdict(names: tuple[str, str], judged: Judgement, *, task: str, images: int) -> str:
    """Conclude "is better", "is worse", "are equivalent" or "No difference is shown", and why.

    Args:
        names: the baseline's and the candidate's.
        judged: of their difference.
        task: "bbox" or "segm".
        images: how many.
    """
    baseline, candidate = names
    value, seeds, unit = judged.value, judged.seeds, _UNIT[task]
    basis = f"{images:,} images, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    if math.isnan(value):
        return f"No difference is shown: {unit} is undefined ({basis})."
    if math.isnan(judged.low):
        return (
            f"No difference is shown: {candidate} minus {baseline} is {value:+.2f} {unit}, and too "
            f"few images have objects for an interval ({basis})."
        )
    kind = f"{100 * judged.confidence:.4g} % interval"
    if judged.among > 1:
        overall = 100 * (1 - (1 - judged.confidence) * judged.among)
        kind = f"{overall:.4g} % interval, simultaneous with {judged.among - 1} more,"
    figures = (
        f"{kind} {judged.low:+.2f} to {judged.high:+.2f}, "
        f"P(better) {_chance(judged.p_better)}; {basis}"
    )
    # One run of each is all that was seen.
    which = (candidate, baseline) if seeds > 1 else (f"{candidate}'s run", f"{baseline}'s")
    minus = f"{candidate} minus {baseline} is {value:+.2f} {unit} ({figures})."
    if judged.decision in ("better", "worse"):
        text = (
            f"{which[0]} is {judged.decision} than {which[1]} by {abs(value):.2f} {unit} "
            f"({figures})."
        )
    elif judged.decision == "equivalent":
        text = f"{candidate} and {baseline} are equivalent within {judged.margin:g} {unit}: {minus}"
    else:
        text = f"No difference is shown: {minus}"
    if judged.margin is not None and seeds > 1:
        text += f" {_margin(judged, unit)}"
    if seeds == 1:
        text += f" {_one_seed(value, judged.known_spread)}"
    return text


def _margin(judged: Judgement, unit: str) -> str:
    margin = f"{judged.margin:g} {unit}"
    if judged.margin is not None and judged.high <= -judged.margin:
        return f"It is worse by at least {margin}."
    if judged.margin is not None and judged.low >= judged.margin:
        return f"It is better by at least {margin}."
    if judged.within_margin:
        return f"A difference of {margin} or more, either way, is ruled out."
    if judged.no_worse:
        return f"It is not worse by {margin} or more; better by as much is not ruled out."
    return f"That it is worse by {margin} is not ruled out."


def _one_seed(value: float, known_spread: float | None) -> str:
    spread = PUBLISHED_SPREAD if known_spread is None else known_spread
    if known_spread is not None:
        known = f"such runs are known to differ by up to {spread:.2f} AP between seeds"
    else:
        known = (
            "COCO runs of one config differ by 0.2 to 0.3 AP between seeds, short trainings by "
            "far more"
        )
    inside = (
        "this difference is inside that noise, so it is not a finding"
        if abs(value) <= spread
        else "a difference inside that noise would not be a finding"
    )
    return f"With one seed, differences between training runs were not seen: {known}, and {inside}."


def _chance(share: float) -> str:
    """Two digits, but never a certainty that draws cannot give."""
    if share > 0.99:
        return "> 0.99"
    return "< 0.01" if share < 0.01 else f"{share:.2f}"
