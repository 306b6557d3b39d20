"""Figures of two or more detectors, their differences, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from softpool_det.coco.protocol import METRICS
from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.bootstrap import bootstrap, permutation_test
from softpool_det.statistics.intervals import Estimate, estimate
from softpool_det.statistics.matches import Matches
from softpool_det.statistics.power import power_of
from softpool_det.statistics.verdict import judge, simultaneous, verdict


def compare_runs(
    arms: Mapping[str, Sequence[Matches]],
    categories: Sequence[str],
    *,
    task: str,
    resamples: int,
    permutations: int,
    confidence: float,
    random_seed: int,
    known_spread: float | None = None,
    margin: float | None = None,
    progress: bool = False,
) -> dict:
    """Compute one task's "metrics", "per_class" and "differences" in comparison.json.

    Args:
        arms: by name, the baseline first, one `Matches` for each seed.
        categories: their K names.
        task, resamples, permutations, confidence, random_seed, known_spread, margin, progress:
            see `files.compare_results`.

    Raises:
        ValueError: the arms do not go together, or a number is out of range.
    """
    names = list(arms)
    label = f"{task}: bootstrap" if progress else None
    draws = bootstrap(
        list(arms.values()), resamples=resamples, random_seed=random_seed, progress=label
    )
    metrics, per_class = 100 * draws.metrics, 100 * draws.per_class
    # The images as they are: to the last digit as pycocotools has them.
    for a, runs in enumerate(arms.values()):
        for s, run in enumerate(runs):
            plain = evaluate(run)
            metrics[a, s, 0] = 100 * np.array(list(plain.metrics().values()))
            per_class[a, s, 0] = 100 * plain.per_class()
    result: dict = {"metrics": {}, "per_class": {}, "differences": []}
    for a, name in enumerate(names):
        result["metrics"][name] = _entries(METRICS, metrics[a], confidence)
        result["per_class"][name] = _entries(categories, per_class[a], confidence)
    candidates = names[1:]
    p_values = np.array(
        [
            permutation_test(
                arms[names[0]],
                arms[name],
                permutations=permutations,
                random_seed=random_seed,
                progress=f"{task}: permutations, {name}" if progress else None,
            )
            for name in candidates
        ]
    )
    adjusted = np.apply_along_axis(holm, 0, p_values)
    for a, name in enumerate(candidates):
        found = [metrics[a + 1] - metrics[0], per_class[a + 1] - per_class[0]]
        figures = _entries(METRICS, found[0], confidence, among=len(candidates))
        by_class = _entries(categories, found[1], confidence, among=1)
        for m, metric in enumerate(METRICS):
            figures[metric]["p_value"] = float(p_values[a, m])
            if len(candidates) > 1:
                figures[metric]["p_value_holm"] = float(adjusted[a, m])
        judged = judge(
            estimate(found[0][:, 0, 0], found[0][:, 1:, 0]),
            confidence=confidence,
            among=len(candidates),
            margin=margin,
            known_spread=known_spread,
        )
        images = len(arms[name][0].image_ids)
        result["differences"].append(
            {
                "baseline": names[0],
                "candidate": name,
                "metrics": figures,
                "per_class": by_class,
                "decision": judged.decision,
                "margin": margin,
                "power": power_of(figures["AP"], images, judged.confidence),
                "verdict": verdict((names[0], name), judged, task=task, images=images),
            }
        )
    return result


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values of several tests at once (Holm, Scandinavian Journal of Statistics 1979).

    Args:
        p_values: (m,) float64; NaN stays, and counts as no test.

    Returns:
        (m,): rejecting those of at most 0.05 makes a false rejection, of any of the m, in at most
        5 % of the cases, however the tests depend on each other.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested])]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def _entries(
    names: Sequence[str], table: np.ndarray, confidence: float, *, among: int = 0
) -> dict[str, dict]:
    """By name, entries of the schema from (seeds, 1 + resamples, names) values.

    `among`: the number of differences that are shown together; 0 for a single arm's figures.
    """
    found = {name: estimate(table[:, 0, i], table[:, 1:, i]) for i, name in enumerate(names)}
    if among == 0:
        return {name: figure_entry(figure, confidence) for name, figure in found.items()}
    return {name: difference_entry(figure, confidence, among) for name, figure in found.items()}


def figure_entry(found: Estimate, confidence: float) -> dict:
    """Return the entry of comparison.json for an arm's figure, in percent."""
    low, high = found.interval(confidence)
    return {**_entry(found), "low": max(low, 0.0), "high": min(high, 100.0)}


def difference_entry(found: Estimate, confidence: float, among: int) -> dict:
    """Return comparison.json's entry for a difference, in percent, one of `among` shown."""
    low, high = _clipped(found.interval(confidence))
    entry = {
        **_entry(found),
        "low": low,
        "high": high,
        "image_standard_error": found.image_standard_error,
        "seed_standard_error": found.seed_standard_error,
        "own_standard_error": found.own_standard_error,
        "p_better": 1 - found.probability(0),
    }
    if among > 1:
        low, high = _clipped(found.interval(simultaneous(confidence, among)))
        entry |= {"simultaneous_low": low, "simultaneous_high": high}
    return entry


def _entry(found: Estimate) -> dict:
    return {
        "value": found.value,
        "by_seed": found.by_seed.tolist(),
        "standard_error": found.standard_error,
    }


def _clipped(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return max(low, -100.0), min(high, 100.0)
