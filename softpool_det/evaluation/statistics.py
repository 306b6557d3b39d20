"""Figures of two or more detectors, their differences, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from softpool_det.evaluation.bootstrap import bootstrap, permutation_test
from softpool_det.evaluation.intervals import Estimate, estimate
from softpool_det.evaluation.matches import Matches
from softpool_det.evaluation.precision import evaluate
from softpool_det.evaluation.protocol import METRICS
from softpool_det.evaluation.verdict import verdict


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
    progress: bool = False,
) -> dict:
    """ "metrics", "per_class" and "differences" of one task in comparison.json.

    Args:
        arms: by name, the baseline first, one `Matches` for each seed.
        categories: their K names.
        task, resamples, permutations, confidence, random_seed, known_spread, progress: see
            `files.compare_results`.

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
    for a, name in enumerate(names[1:], start=1):
        figures = _entries(METRICS, metrics[a] - metrics[0], confidence, paired=True)
        label = f"{task}: permutations, {name}" if progress else None
        p_values = permutation_test(
            arms[names[0]],
            arms[name],
            permutations=permutations,
            random_seed=random_seed,
            progress=label,
        )
        for metric, p_value in zip(METRICS, p_values.tolist(), strict=True):
            figures[metric]["p_value"] = p_value
        differences = per_class[a] - per_class[0]
        result["differences"].append(
            {
                "baseline": names[0],
                "candidate": name,
                "metrics": figures,
                "per_class": _entries(categories, differences, confidence, paired=True),
                "verdict": verdict(
                    (names[0], name),
                    figures["AP"],
                    task=task,
                    images=len(arms[name][0].image_ids),
                    seeds=len(arms[name]),
                    confidence=confidence,
                    known_spread=known_spread,
                ),
            }
        )
    return result


def _entries(
    names: Sequence[str], table: np.ndarray, confidence: float, *, paired: bool = False
) -> dict[str, dict]:
    """By name, entries of the schema from (seeds, 1 + resamples, names) values."""
    return {
        name: _entry(estimate(table[:, 0, i], table[:, 1:, i], confidence), paired)
        for i, name in enumerate(names)
    }


def _entry(found: Estimate, paired: bool) -> dict:
    lowest = -100.0 if paired else 0.0
    entry = {
        "value": found.value,
        "by_seed": found.by_seed.tolist(),
        "low": max(found.low, lowest),
        "high": min(found.high, 100.0),
        "standard_error": found.standard_error,
    }
    if paired:
        entry["image_standard_error"] = found.image_standard_error
        entry["seed_standard_error"] = found.seed_standard_error
        entry["p_better"] = math.nan if math.isnan(found.value) else found.p_positive
    return entry
