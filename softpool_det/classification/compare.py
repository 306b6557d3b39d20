"""Classifiers side by side: accuracies, means over seeds, and McNemar's test seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from softpool_det.classification.mcnemar import mcnemar_test
from softpool_det.classification.predictions import Predictions

NOTE = (
    "McNemar's test (continuity-corrected) is of two sets of weights, one test a seed: it says "
    "whether these two are right equally often, not whether another training would turn out alike."
)


def compare_predictions(arms: Mapping[str, Sequence[Path]]) -> dict:
    """Compare arms by their prediction files.

    Args:
        arms: by name, the baseline first, one file for each seed, in the same order.

    Returns:
        "baseline"; "arms": by name "files", "top1" and "top5" (percent, by seed) and their means;
        "mcnemar": by name of every other arm, what each seed's test found.

    Raises:
        ValueError: fewer than two arms, unequal numbers of files, or files of other images.
    """
    counts = {name: len(files) for name, files in arms.items()}
    if len(arms) < 2 or len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"two or more arms with as many files each are compared, got {counts}")
    found = {name: [Predictions.load(file) for file in files] for name, files in arms.items()}
    baseline, *others = arms
    return {
        "baseline": baseline,
        "arms": {
            name: {"files": list(map(str, files)), **_accuracies(found[name])}
            for name, files in arms.items()
        },
        "mcnemar": {
            name: [
                asdict(mcnemar_test(*pair))
                for pair in zip(found[baseline], found[name], strict=True)
            ]
            for name in others
        },
    }


def _accuracies(runs: Sequence[Predictions]) -> dict:
    by_seed = [run.accuracies() for run in runs]
    result: dict = {}
    for metric in ("top1", "top5"):
        result[metric] = [accuracies[metric] for accuracies in by_seed]
        result[f"{metric}_mean"] = sum(result[metric]) / len(by_seed)
    return result


def markdown(comparison: Mapping) -> str:
    """The table of what :func:`compare_predictions` returns."""
    baseline = comparison["baseline"]
    first = comparison["arms"][baseline]
    rows = []
    for name, arm in comparison["arms"].items():
        tests = comparison["mcnemar"].get(name, [])
        difference = f"{arm['top1_mean'] - first['top1_mean']:+.2f}" if tests else ""
        rows.append(
            [
                *(name, f"{arm['top1_mean']:.2f}", difference, _listed(arm["top1"])),
                f"{arm['top5_mean']:.2f}",
                ", ".join(f"{test['only_baseline']}/{test['only_candidate']}" for test in tests),
                ", ".join(f"{test['statistic']:.2f} ({test['p_value']:.2g})" for test in tests),
            ]
        )
    headers = ["arm", "top-1", "difference", "top-1 by seed", "top-5"]
    headers += ["right alone, first arm/this", "McNemar's chi-squared (p)"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return f"{table}\n\n{NOTE}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
