"""Two or more detectors from their result files: figures, differences and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from softpool_det.evaluation.bootstrap import bootstrap, permutation_test
from softpool_det.evaluation.intervals import Estimate, estimate
from softpool_det.evaluation.matches import Matches, match
from softpool_det.evaluation.precision import evaluate
from softpool_det.evaluation.protocol import METRICS, TASKS
from softpool_det.evaluation.results import GroundTruth, read_detections, read_ground_truth
from softpool_det.evaluation.verdict import verdict

# By task, then arm: one `Matches` for each seed.
Runs = dict[str, dict[str, list[Matches]]]


def compare_results(
    ground_truth: str | Path,
    results: Mapping[str, Sequence[str | Path]],
    *,
    seeds: Sequence[int] | None = None,
    resamples: int = 1000,
    permutations: int = 1000,
    confidence: float = 0.95,
    random_seed: int = 0,
    known_spread: float | None = None,
    progress: bool = True,
) -> dict:
    """Compare result files of any framework.

    Args:
        ground_truth: a COCO ground-truth file.
        results: by arm, the baseline first: one result file for each seed, paired by position.
        seeds: the seeds' numbers; 1, 2, ... by default.
        resamples: of the bootstrap.
        permutations: of the permutation test.
        confidence: of all intervals.
        random_seed: of both.
        known_spread: see `verdict.verdict`.
        progress: whether to draw progress bars on stderr.

    Returns:
        The dictionary that comparison.json holds: all AP and AR in percent.

    Raises:
        OSError, ValueError: a file cannot be read or is wrong, or the arms do not go together.
    """
    _check_arms(results, seeds)
    truth = read_ground_truth(ground_truth)
    runs = match_files(truth, results)
    count = len(next(iter(results.values())))
    data = {
        "names": list(results),
        "seeds": list(seeds) if seeds else list(range(1, count + 1)),
        "images": len(truth.image_ids),
        "objects": int((truth.crowd == 0).sum()),
        "categories": list(truth.category_names),
        "resamples": resamples,
        "permutations": permutations,
        "confidence": confidence,
        "random_seed": random_seed,
    }
    tasks = {
        task: compare_runs(
            arms,
            truth.category_names,
            task=task,
            resamples=resamples,
            permutations=permutations,
            confidence=confidence,
            random_seed=random_seed,
            known_spread=known_spread,
            progress=progress,
        )
        for task, arms in runs.items()
    }
    return {**data, "tasks": tasks}


def match_files(truth: GroundTruth, results: Mapping[str, Sequence[str | Path]]) -> Runs:
    """Read and match all result files, one at a time, for the tasks that all of them allow.

    Raises:
        ValueError: a file is wrong, or the files have no task in common.
    """
    runs: Runs = {task: {name: [] for name in results} for task in TASKS}
    if truth.segmentations is None:
        del runs["segm"]
    for name, paths in results.items():
        for path in paths:
            detections = read_detections(path, truth)
            for task in set(runs) - set(detections.tasks):
                del runs[task]
            if not runs:
                there = " and ".join(detections.tasks)
                raise ValueError(
                    f"{path}: has {there} only, which the files before or the ground truth lack"
                )
            for task, arms in runs.items():
                arms[name].append(match(truth, detections, task))
    return runs


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
            `compare_results`.

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


def _check_arms(results: Mapping[str, Sequence[str | Path]], seeds: Sequence[int] | None) -> None:
    if len(results) < 2:
        raise ValueError(f"results names {len(results)} arm(s), a comparison needs two or more")
    counts = {name: len(paths) for name, paths in results.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"results has {counts} files: each arm needs one for each seed")
    count = next(iter(counts.values()))
    if seeds and len(seeds) != count:
        raise ValueError(f"seeds={list(seeds)}, but each arm has {count} result file(s)")


def _entries(
    names: Sequence[str], table: np.ndarray, confidence: float, *, paired: bool = False
) -> dict[str, dict]:
    """By name, entries of the schema from (seeds, 1 + resamples, names) values."""
    return {
        name: _entry(estimate(table[:, 0, i], table[:, 1:, i], confidence), paired)
        for i, name in enumerate(names)
    }


def _entry(found: Estimate, paired: bool) -> dict:
    entry = {
        "value": found.value,
        "by_seed": found.by_seed.tolist(),
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
    }
    if paired:
        entry["image_standard_error"] = found.image_standard_error
        entry["seed_standard_error"] = found.seed_standard_error
        entry["p_better"] = math.nan if math.isnan(found.value) else found.p_positive
    return entry
