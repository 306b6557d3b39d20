"""Precision over recall by COCO's interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco import metrics

from softpool_det.coco.protocol import IOU_THRESHOLDS, RECALL_THRESHOLDS
from softpool_det.statistics.matches import FALSE_POSITIVE, TRUE_POSITIVE, Matches


def precision_recall_curves(runs: Sequence[Matches]) -> dict:
    """Precision at 101 recalls, mean over classes with objects and over runs.

    Area "all", the 100 best detections of each image and class: what pycocotools' `COCOeval` has in
    `eval["precision"][:, :, :, 0, -1]`, without the classes that are -1 there.

    Args:
        runs: one for each seed, of the same ground truth.

    Returns:
        `recall` (101 numbers) and `precision`, by "0.50", "0.75" and "mean" (over the ten IoU
        thresholds) 101 numbers each, all in [0, 1]; NaN where no class has objects.

    Raises:
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("runs must hold one run at least, got none")
    tables = [class_precision(matches) for matches in runs]
    precision = np.mean([_mean_over_classes(table) for table in tables], axis=0)
    at = {f"{iou:.2f}": curve for iou, curve in zip(IOU_THRESHOLDS, precision, strict=True)}
    chosen = {"0.50": at["0.50"], "0.75": at["0.75"], "mean": precision.mean(axis=0)}
    return {
        "recall": RECALL_THRESHOLDS.tolist(),
        "precision": {name: curve.tolist() for name, curve in chosen.items()},
    }


def class_precision(matches: Matches) -> np.ndarray:
    """(T, R, K) precision of every class; NaN for those without objects."""
    countable = ~matches.object_ignored[0]
    objects = np.bincount(
        matches.object_category[countable], minlength=len(matches.category_ids)
    ).tolist()
    table = np.full((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), len(objects)), np.nan)
    for k, number in enumerate(objects):
        if number:
            start, end = matches.offsets[k : k + 2]
            for t, state in enumerate(matches.state[0, :, start:end]):
                table[t, :, k] = interpolated_precision(state, number)
    return table


def interpolated_precision(state: np.ndarray, objects: int) -> np.ndarray:
    """(R,) precision at COCO's recalls.

    Args:
        state: (D,) states of detections by falling score, see :class:`Matches`.
        objects: number of objects, above 0.
    """
    precision = np.zeros(len(RECALL_THRESHOLDS))
    if state.size:
        true = np.cumsum(state == TRUE_POSITIVE, dtype=np.float64)
        false = np.cumsum(state == FALSE_POSITIVE, dtype=np.float64)
        _, points = metrics.precision_recall_curve(true, false, objects)
        for place, value, _ in points:
            precision[place] = value
    return precision


def _mean_over_classes(table: np.ndarray) -> np.ndarray:
    there = ~np.isnan(table[0, 0])
    if not there.any():
        return np.full(table.shape[:2], np.nan)
    return table[:, :, there].mean(axis=2)
