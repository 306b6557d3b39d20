"""Average precision and recall by COCO's rules, plain and with images counted several times.

With the weight w of an image, everything is as if the data set held that image w times over,
detections and objects: what pycocotools gives on such a data set, where the copies of an image
follow each other in the order of the ids. One case differs: detections of one category *and*
image that share their score. Here all copies of the first come before all copies of the second,
there they take turns, copy by copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from softpool_det.coco.protocol import IOU_THRESHOLDS, METRICS, RECALL_THRESHOLDS
from softpool_det.statistics.matches import Matches
from softpool_det.statistics.ranking import Ranking, ranking

_AP50 = int(np.flatnonzero(IOU_THRESHOLDS == 0.5)[0])
_AP75 = int(np.flatnonzero(IOU_THRESHOLDS == 0.75)[0])
# What pycocotools adds to the denominator of precision.
_SPACING = float(np.spacing(1))


@dataclass(frozen=True)
class Evaluation:
    """As pycocotools' `COCOeval.eval` at 100 detections; -1 where there are no objects.

    Attributes:
        precision: (T, R, K, A) float64, interpolated, 0 to 1.
        recall: (T, K, A) float64, 0 to 1.
    """

    precision: np.ndarray
    recall: np.ndarray

    def metrics(self) -> dict[str, float]:
        """`METRICS`, 0 to 1, equal to pycocotools' `stats`; NaN where it has -1."""
        precision, recall = self.precision, self.recall
        values = (
            precision[..., 0],
            precision[_AP50, ..., 0],
            precision[_AP75, ..., 0],
            *(precision[..., area] for area in (1, 2, 3)),
            recall[..., 0],
        )
        return {name: _mean(value) for name, value in zip(METRICS, values, strict=True)}

    def per_class(self) -> np.ndarray:
        """(K,) AP of each category, 0 to 1; NaN where it has no objects."""
        return np.array([_mean(self.precision[:, :, k, 0]) for k in range(self.recall.shape[1])])


def _mean(values: np.ndarray) -> float:
    there = values[values > -1]
    return float(np.mean(there)) if there.size else float("nan")


def evaluate(matches: Matches, weights: np.ndarray | None = None) -> Evaluation:
    """Precision and recall of one run.

    Args:
        matches: from `matches.match`.
        weights: (I,) whole numbers from 0, how many times each image is there; once by default.

    Raises:
        ValueError: weights of another shape, not whole or negative.
    """
    images = len(matches.image_ids)
    if weights is None:
        weights = np.ones(images, dtype=np.int32)
    weights = checked_weights(weights, images)
    ranked = ranking(matches)
    totals = object_totals(matches, weights[None])[0]
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), len(matches.category_ids), len(totals))
    precision = np.full(shape, -1.0)
    recall = np.full((shape[0], *shape[2:]), -1.0)
    _curves(ranked, weights, totals, RECALL_THRESHOLDS, precision, recall)
    return Evaluation(precision, recall)


def checked_weights(weights: np.ndarray, images: int) -> np.ndarray:
    """(..., images) int32.

    Raises:
        ValueError: see `evaluate`.
    """
    weights = np.asarray(weights)
    if weights.shape[-1] != images:
        raise ValueError(f"weights have shape {weights.shape}, must end in {images}, the images")
    whole = weights.astype(np.int32)
    if (whole != weights).any() or (whole < 0).any():
        raise ValueError("weights must be whole numbers from 0: how many times an image is there")
    return whole


def object_totals(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(B, A, K) int64: objects that count, for each of (B, I) weights of the images."""
    shape = (len(weights), len(matches.object_ignored), len(matches.category_ids))
    totals = np.zeros(shape, dtype=np.int64)
    _add_objects(
        matches.object_image, matches.object_category, matches.object_ignored, weights, totals
    )
    return totals


def weighted_metrics(
    ranked: Ranking, weights: np.ndarray, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The figures of one run for many weights of its images at once, on all threads of numba.

    Args:
        ranked: of the run.
        weights: (B, I) int32, of the images as `ranked` numbers them.
        totals: (B, A, K) int64, objects that count.

    Returns:
        (B, 7) float64: `METRICS`, 0 to 1, NaN where there are no objects.
        (B, K) float64: AP of each category, likewise.
    """
    metrics = np.empty((len(weights), len(METRICS)))
    per_class = np.empty((len(weights), totals.shape[2]))
    _weighted_metrics(ranked, weights, totals, RECALL_THRESHOLDS, metrics, per_class)
    return metrics, per_class


@njit(cache=True)
def _add_objects(image, category, ignored, weights, totals):
    for b in range(weights.shape[0]):
        for a in range(ignored.shape[0]):
            for g in range(image.size):
                if not ignored[a, g]:
                    totals[b, a, category[g]] += weights[b, image[g]]


@njit(cache=True, parallel=True)
def _weighted_metrics(ranked, weights, totals, recalls, metrics, per_class):
    for b in prange(weights.shape[0]):
        _one_weighting(ranked, weights[b], totals[b], recalls, metrics[b], per_class[b])


@njit(cache=True)
def _one_weighting(ranked, weights, totals, recalls, metrics, per_class):
    areas, categories = totals.shape
    thresholds = ranked.event_offsets.shape[1]
    precision = np.empty((areas, thresholds, categories))
    recall = np.empty((areas, thresholds, categories))
    scratch = _scratch(ranked)
    needed = np.empty(recalls.size, dtype=np.int64)
    curve = np.empty(recalls.size)
    for a in range(areas):
        for k in range(categories):
            total = totals[a, k]
            if total == 0:
                continue
            _needed_hits(total, recalls, needed)
            _count(ranked, a, k, weights, scratch[0])
            for t in range(thresholds):
                hits = _curve(ranked, a, t, k, weights, needed, scratch, curve)
                recall[a, t, k] = hits / total
                precision[a, t, k] = curve.mean()
    _summarize(precision, recall, totals > 0, metrics, per_class)


@njit(cache=True)
def _summarize(precision, recall, there, metrics, per_class):
    """Means over the categories that are there, in the order of METRICS; NaN for none."""
    for k in range(per_class.size):
        per_class[k] = precision[0, :, k].mean() if there[0, k] else np.nan
    metrics[0] = _mean_there(precision[0], there[0])
    metrics[1] = _mean_there(precision[0, _AP50 : _AP50 + 1], there[0])
    metrics[2] = _mean_there(precision[0, _AP75 : _AP75 + 1], there[0])
    for a in range(1, 4):
        metrics[2 + a] = _mean_there(precision[a], there[a])
    metrics[6] = _mean_there(recall[0], there[0])


@njit(cache=True)
def _mean_there(values, there):
    total = 0.0
    for t in range(values.shape[0]):
        for k in range(there.size):
            if there[k]:
                total += values[t, k]
    count = values.shape[0] * there.sum()
    return total / count if count else np.nan


@njit(cache=True)
def _curves(ranked, weights, totals, recalls, precision, recall):
    areas, categories = totals.shape
    scratch = _scratch(ranked)
    needed = np.empty(recalls.size, dtype=np.int64)
    for a in range(areas):
        for k in range(categories):
            total = totals[a, k]
            if total == 0:
                continue
            _needed_hits(total, recalls, needed)
            _count(ranked, a, k, weights, scratch[0])
            for t in range(recall.shape[0]):
                curve = np.empty(recalls.size)
                hits = _curve(ranked, a, t, k, weights, needed, scratch, curve)
                recall[t, k, a] = hits / total
                precision[t, :, k, a] = curve


@njit(cache=True)
def _scratch(ranked):
    """Room for running sums: of counted detections, and of hits and precision at events."""
    counted, events = ranked.longest
    return (
        np.empty(counted + 1, dtype=np.int64),
        np.empty(events + 1, dtype=np.int64),
        np.empty(events + 1),
    )


@njit(cache=True)
def _needed_hits(total, recalls, needed):
    """The fewest true positives whose recall, as a float, reaches each threshold."""
    for r in range(recalls.size):
        hits = int(np.ceil(recalls[r] * total))
        while hits > 0 and (hits - 1) / total >= recalls[r]:
            hits -= 1
        while hits / total < recalls[r]:
            hits += 1
        needed[r] = hits


@njit(cache=True)
def _count(ranked, a, k, weights, counted):
    """Running weight of the counted detections of an area and category."""
    start, end = ranked.counted_offsets[a, k], ranked.counted_offsets[a, k + 1]
    weight = 0
    counted[0] = 0
    for place in range(end - start):
        weight += weights[ranked.counted_image[start + place]]
        counted[place + 1] = weight


@njit(cache=True)
def _curve(ranked, a, t, k, weights, needed, scratch, curve):
    """Interpolated precision at each recall threshold into `curve`; returns the true positives.

    Precision at a recall is the highest at that recall or beyond. It only falls between true
    positives, so going back over them is enough.
    """
    counted, hits_at, precision_at = scratch
    hits = change = count = 0
    for e in range(ranked.event_offsets[a, t, k], ranked.event_offsets[a, t, k + 1]):
        weight = weights[ranked.event_image[e]]
        change += ranked.event_change[e] * weight
        if ranked.event_hit[e]:
            hits += weight
            ranked_above = counted[ranked.event_place[e]] + change
            hits_at[count] = hits
            precision_at[count] = hits / (ranked_above + _SPACING)
            count += 1
    r = needed.size - 1
    while r >= 0 and needed[r] > hits:
        curve[r] = 0.0
        r -= 1
    highest = 0.0
    for e in range(count - 1, -1, -1):
        highest = max(highest, precision_at[e])
        before = hits_at[e - 1] if e > 0 else 0
        while r >= 0 and needed[r] > before:
            curve[r] = highest
            r -= 1
    while r >= 0:
        curve[r] = highest
        r -= 1
    return hits
