"""How many seeds a difference takes to be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

# AP points that are asked about, and the chance of showing them.
DIFFERENCES = (0.5, 1.0)
POWER = 0.8
# More than anyone trains.
_MOST_SEEDS = 1000


def variances(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """Split a difference's variance into that of images and that of seeds.

    Args:
        entry: of AP in a difference's "metrics" in comparison.json, with two seeds or more.

    Returns:
        The variance by images, that seeds do not lessen, and that of one seed's difference; None
        where they are not known.
    """
    seeds = len(entry["by_seed"])
    errors = (entry["image_standard_error"], entry["seed_standard_error"])
    if seeds < 2 or not all(x is not None and math.isfinite(x) for x in errors):
        return None
    between = float(np.var(entry["by_seed"], ddof=1))
    error = entry.get("own_standard_error")
    # Files of earlier versions lack it: what the seeds differ by and training does not explain.
    if error is None:
        own = between - seeds * entry["seed_standard_error"] ** 2
    else:
        own = seeds * error**2
    return max(entry["image_standard_error"] ** 2 - own / seeds, 0.0), max(between, own)


def seeds_needed(
    difference: float, of_images: float, of_run: float, confidence: float, power: float = POWER
) -> int | None:
    """Return the least number of seeds that show a difference with a chance of `power`.

    The interval of n seeds has the standard error sqrt(of_images + of_run / n), and a quantile
    between the normal's and Student's with n - 1 degrees of freedom, by the parts of the two.

    Args:
        difference: the true one, in AP, above 0.
        of_images, of_run: see `variances`.
        confidence: of the interval that must leave out 0.
        power: the chance, between 0.5 and 1.

    Returns:
        From 2; None where 1,000 are not enough.
    """
    tail = (1 - confidence) / 2
    n = np.arange(2, _MOST_SEEDS + 1)
    total = of_images + of_run / n
    normal = stats.norm.isf(tail)
    part = np.divide(of_run / n, total, out=np.zeros(len(n)), where=total > 0)
    quantile = normal + part * (stats.t.isf(tail, n - 1) - normal)
    enough = (quantile + stats.norm.ppf(power)) * np.sqrt(total) <= difference
    return int(n[enough][0]) if enough.any() else None


def power_of(entry: Mapping[str, Any], images: int, confidence: float) -> list[dict]:
    """Compute the "power" of a difference in comparison.json.

    For each of `DIFFERENCES`: "seeds" as `seeds_needed` says. Where no number of seeds is enough,
    because the images' variance alone is too large, the "images" that it would take.
    """
    known = variances(entry)
    if known is None:
        return []
    rows = []
    for difference in DIFFERENCES:
        seeds = seeds_needed(difference, *known, confidence)
        row: dict[str, Any] = {"difference": difference, "seeds": seeds, "images": None}
        if seeds is None:
            quantile = stats.norm.isf((1 - confidence) / 2) + stats.norm.ppf(POWER)
            factor = known[0] * (quantile / difference) ** 2
            row["images"] = math.ceil(images * factor) if factor > 1 else None
        rows.append(row)
    return rows
