"""Two or more detectors from their result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softpool_det.coco.protocol import TASKS
from softpool_det.coco.reading import (
    Detections,
    GroundTruth,
    read_detections,
    read_ground_truth,
)
from softpool_det.statistics.calibration import calibration
from softpool_det.statistics.curves import precision_recall_curves
from softpool_det.statistics.differences import compare_runs
from softpool_det.statistics.error_types import mean_errors
from softpool_det.statistics.image_gains import image_gains
from softpool_det.statistics.matches import Matches, match, tie_breaks
from softpool_det.statistics.object_tests import object_tests
from softpool_det.statistics.remarks import file_remarks, skipped_remarks, tie_remarks
from softpool_det.statistics.ties import tie_effects


@dataclass(frozen=True)
class Runs:
    """Result files, read and matched.

    Attributes:
        truth: what they were matched with.
        detections: by arm, one for each seed.
        matches: by task, then arm, one for each seed.
    """

    truth: GroundTruth
    detections: dict[str, list[Detections]]
    matches: dict[str, dict[str, list[Matches]]]


def compare_results(
    ground_truth: str | Path, results: Mapping[str, Sequence[str | Path]], **options: Any
) -> dict:
    """Compare result files of any framework.

    Args:
        ground_truth: a COCO ground-truth file.
        results: by arm, the baseline first: one result file for each seed, paired by position.
        options: as for :func:`compare_matched`.

    Returns:
        The dictionary that comparison.json holds, with all AP and AR in percent.

    Raises:
        OSError, ValueError: a file cannot be read or is wrong, or the arms do not go together.
    """
    return compare_matched(match_files(ground_truth, results, options.get("seeds")), **options)


def compare_matched(
    runs: Runs,
    *,
    seeds: Sequence[int] | None = None,
    resamples: int = 1000,
    permutations: int = 1000,
    confidence: float = 0.95,
    random_seed: int = 0,
    known_spread: Mapping[str, float] | None = None,
    margin: float | None = None,
    progress: bool = True,
) -> dict:
    """Compare result files that are read and matched.

    Args:
        runs: from :func:`match_files`.
        seeds: the seeds' numbers; 1, 2, ... by default.
        resamples: of the bootstrap.
        permutations: of the permutation test.
        confidence: of all intervals.
        random_seed: of both.
        known_spread: by task, see `verdict.judge`.
        margin: in AP; asks whether the candidates are equivalent within it, too.
        progress: whether to draw progress bars on stderr.

    Returns:
        The dictionary that comparison.json holds, with all AP and AR in percent.
    """
    truth = runs.truth
    count = len(next(iter(runs.detections.values())))
    numbers = list(seeds) if seeds else list(range(1, count + 1))
    data = {
        "names": list(runs.detections),
        "seeds": numbers,
        "images": len(truth.image_ids),
        "objects": int((truth.crowd == 0).sum()),
        "categories": list(truth.category_names),
        "resamples": resamples,
        "permutations": permutations,
        "confidence": confidence,
        "random_seed": random_seed,
        "known_spread": dict(known_spread) if known_spread else None,
    }
    tasks = {}
    remarks = file_remarks(truth, runs.detections)
    remarks += skipped_remarks(truth, runs.detections, list(runs.matches))
    for task, arms in runs.matches.items():
        tasks[task] = compare_runs(
            arms,
            truth.category_names,
            task=task,
            resamples=resamples,
            permutations=permutations,
            confidence=confidence,
            random_seed=random_seed,
            known_spread=(known_spread or {}).get(task),
            margin=margin,
            progress=progress,
        )
        _describe(tasks[task], runs, task, numbers)
        remarks += tie_remarks(task, tasks[task]["ties"], tasks[task]["metrics"])
    return {**data, "remarks": remarks, "tasks": tasks}


def _describe(result: dict, runs: Runs, task: str, seeds: Sequence[int]) -> None:
    """Add to a task what explains the difference: ties, objects, curves, errors, scores, images."""
    truth, arms = runs.truth, runs.matches[task]
    baseline, *candidates = arms
    for difference, name in zip(result["differences"], candidates, strict=True):
        difference["objects"] = object_tests(arms[baseline], arms[name], seeds)
    result["ties"] = {
        name: tie_effects(truth, runs.detections[name], taken, task) for name, taken in arms.items()
    }
    result["curves"] = {name: precision_recall_curves(taken) for name, taken in arms.items()}
    result["errors"] = {
        name: mean_errors(truth, runs.detections[name], taken, task) for name, taken in arms.items()
    }
    result["calibration"] = {name: calibration(taken) for name, taken in arms.items()}
    result["image_gains"] = [
        row for name in candidates for row in image_gains(arms[baseline], arms[name], name)
    ]


def match_files(
    ground_truth: str | Path,
    results: Mapping[str, Sequence[str | Path]],
    seeds: Sequence[int] | None = None,
) -> Runs:
    """Read and match all result files, one at a time, for the tasks that all of them allow.

    Args:
        ground_truth, results, seeds: as for :func:`compare_results`.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is wrong, the arms do not go together, two seeds of an arm have the same
            detections, or the files have no task in common.
    """
    _check_arms(results, seeds)
    truth = read_ground_truth(ground_truth)
    tasks = [task for task in TASKS if task == "bbox" or truth.segmentations is not None]
    runs = Runs(truth, {name: [] for name in results}, {t: {n: [] for n in results} for t in tasks})
    for name, paths in results.items():
        for path in paths:
            detections = read_detections(path, truth)
            runs.detections[name].append(detections)
            for task in set(runs.matches) - set(detections.tasks):
                del runs.matches[task]
            if not runs.matches:
                there = " and ".join(detections.tasks)
                raise ValueError(
                    f"{path}: has {there} only, which the files before or the ground truth lack"
                )
            for task, arms in runs.matches.items():
                arms[name].append(match(truth, detections, task))
        _check_repeats(name, runs.detections[name])
    return runs


def _check_repeats(name: str, runs: Sequence[Detections]) -> None:
    """Raise ValueError where two seeds of an arm have the same detections, in whatever order."""
    if len(runs) < 2:
        return
    seen: dict[bytes, Path] = {}
    for run in runs:
        keys = (tie_breaks(run, run.tasks[-1]), run.score, run.category, run.image)
        order = np.lexsort(keys)
        content = b"".join(key[order].tobytes() for key in keys)
        if content and content in seen:
            raise ValueError(
                f"{name}: {seen[content]} and {run.path} hold the same results; each file must be "
                "of a training seed of its own"
            )
        seen[content] = run.path


def _check_arms(results: Mapping[str, Sequence[str | Path]], seeds: Sequence[int] | None) -> None:
    if len(results) < 2:
        raise ValueError(f"results names {len(results)} arm(s), a comparison needs two or more")
    counts = {name: len(paths) for name, paths in results.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"results has {counts} files: each arm needs one for each seed")
    count = next(iter(counts.values()))
    if seeds and len(seeds) != count:
        raise ValueError(f"seeds={list(seeds)}, but each arm has {count} result file(s)")
