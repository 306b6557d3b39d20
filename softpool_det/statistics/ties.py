"""What the order of detections with equal scores does to AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from softpool_det.coco.reading import Detections, GroundTruth
from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.matches import TRUE_POSITIVE, Matches, match


def tie_effects(
    ground_truth: GroundTruth, detections: Sequence[Detections], runs: Sequence[Matches], task: str
) -> dict[str, float]:
    """How much the AP of an arm could differ with another order of its equal scores.

    Args:
        ground_truth: from `results.read_ground_truth`.
        detections: one result file for each seed.
        runs: the same, matched with the ground truth for the task.
        task: "bbox" or "segm".

    Returns:
        Means over the runs. `share`, 0 to 1: detections that share their score with another one of
        their category. In percent: `least` and `most`, AP where the false, or the true, positives
        come first among equal scores; `file_order`, AP where these stay as in the file, which is
        what pycocotools gives. It can lie outside: the order also decides which 100 of more equal
        scores count and, of two detections that fit one object, which one takes it.
    """
    rows = []
    for file, matches in zip(detections, runs, strict=True):
        share = _tied_share(matches)
        orders = [matches] * 3
        if share:
            as_in_file = match(ground_truth, file, task, file_order=True)
            orders = [_reordered(matches, "last"), _reordered(matches, "first"), as_in_file]
        rows.append([share, *(100 * evaluate(run).metrics()["AP"] for run in orders)])
    names = ("share", "least", "most", "file_order")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def _tied_share(matches: Matches) -> float:
    equal = np.flatnonzero((np.diff(matches.score) == 0) & (np.diff(matches.category) == 0))
    return len(np.union1d(equal, equal + 1)) / max(len(matches.score), 1)


def _reordered(matches: Matches, hits: str) -> Matches:
    """Sort the run's true positives of equal scores "first" or "last", for area "all".

    The order is another one at each IoU threshold, so of the arrays only `state` goes by it.
    """
    state = matches.state.copy()
    for t, row in enumerate(matches.state[0]):
        hit = (row == TRUE_POSITIVE) == (hits == "last")
        state[0, t] = row[np.lexsort((hit, -matches.score, matches.category))]
    return replace(matches, state=state)
