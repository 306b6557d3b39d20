"""Average precision and recall by COCO's rules, plain and with images counted several times.

With the weight w of an image, everything is as if the data set held that image w times over,
detections and objects: what pycocotools gives on such a data set, where the copies of an image
follow each other in the order of the ids. One case differs: detections of one category *and*
image that share their score. Here all copies of the first come before all copies of the second,
there they take turns, copy by copy.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numba import njit

from softpool_det.coco.protocol import IOU_THRESHOLDS, METRICS, RECALL_THRESHOLDS
from softpool_det.statistics.matches import Matches
from softpool_det.statistics.ranking import Ranking, ranking

_AP50 = int(np.flatnonzero(IOU_THRESHOLDS == 0.5)[0])
_AP75 = int(np.flatnonzero(IOU_THRESHOLDS == 0.75)[0])
# What pycocotools adds to the denominator of precision.
_SPACING = float(np.spacing(1))
# Weightings of the images that a thread counts side by side: enough for vector instructions.
LANES = 32


@dataclass(frozen=True)
class Evaluation:
    """As pycocotools' `COCOeval.eval` at 100 detections; -1 without objects.

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
    _curves(ranked, weights[:, None], totals, RECALL_THRESHOLDS, precision, recall)
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
    """Compute one run's figures for many weights of its images at once, on several threads.

    `NUMBA_NUM_THREADS` says how many; by default one for each core that the process may use.

    Args:
        ranked: of the run.
        weights: (B, I) int32, of the images as `ranked` numbers them.
        totals: (B, A, K) int64, objects that count.

    Returns:
        (B, 7) float64: `METRICS`, 0 to 1, NaN without objects.
        (B, K) float64: AP of each category, likewise.
    """
    metrics = np.empty((len(weights), len(METRICS)))
    per_class = np.empty((len(weights), totals.shape[2]))

    def count(start: int) -> None:
        part = slice(start, start + LANES)
        found = metrics[part], per_class[part]
        _weighted_metrics(ranked, weights[part], totals[part], RECALL_THRESHOLDS, *found)

    # numba's own threads are OpenMP's, whose number it would set for PyTorch, too.
    with ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS) as pool:
        list(pool.map(count, range(0, len(weights), LANES)))
    return metrics, per_class


def mean_precisions(ranked: Ranking, totals: np.ndarray, images: int) -> np.ndarray:
    """Average the precision over recall, with each image once: (A, T, K) float64.

    Args:
        ranked: of a run.
        totals: (A, K) int64, objects that count, at least 1 each.
        images: of the run.
    """
    once = np.ones((images, 1), dtype=np.int32)
    return _means(ranked, once, totals[None], RECALL_THRESHOLDS)[0][0]


@njit(cache=True)
def _add_objects(image, category, ignored, weights, totals):
    for b in range(weights.shape[0]):
        for a in range(ignored.shape[0]):
            for g in range(image.size):
                if not ignored[a, g]:
                    totals[b, a, category[g]] += weights[b, image[g]]


@njit(cache=True, nogil=True)
def _weighted_metrics(ranked, weights, totals, recalls, metrics, per_class):
    """Fill (L, 7) and (L, K) for L weightings, at most LANES."""
    precision, recall = _means(ranked, weights.T.copy(), totals, recalls)
    for b in range(weights.shape[0]):
        _summarize(precision[b], recall[b], totals[b] > 0, metrics[b], per_class[b])


# The functions below take L weightings ("lanes") at once, as (images, L), and keep their running
# sums side by side. Loops over lanes are the innermost ones, for the compiler makes vector
# instructions of those.


@njit(cache=True, error_model="numpy")
def _means(ranked, weights, totals, recalls):
    """(L, A, T, K) mean precision over recall, and recall; not set without objects."""
    lanes, areas, categories = totals.shape
    thresholds = ranked.event_offsets.shape[1]
    precision = np.empty((lanes, areas, thresholds, categories))
    recall = np.empty((lanes, areas, thresholds, categories))
    scratch = _scratch(ranked, lanes)
    most = totals.max() if totals.size else 0
    reached = np.empty((lanes, most + 1), dtype=np.int32)
    for a in range(areas):
        for k in range(categories):
            for lane in range(lanes):
                _reached(totals[lane, a, k], recalls, reached[lane])
            _count(ranked, a, k, weights, scratch[0])
            for t in range(thresholds):
                events = _sum_events(ranked, a, t, k, weights, scratch)
                sums = _sum_precision(scratch, events, reached)
                for lane in range(lanes):
                    precision[lane, a, t, k] = sums[lane] / recalls.size
                    recall[lane, a, t, k] = scratch[1][events, lane] / totals[lane, a, k]
    return precision, recall


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
    """Fill (T, R, K, A) and (T, K, A) for a single lane."""
    scratch = _scratch(ranked, 1)
    most = totals.max() if totals.size else 0
    reached = np.empty(most + 1, dtype=np.int32)
    for a in range(totals.shape[0]):
        for k in range(totals.shape[1]):
            total = totals[a, k]
            if total == 0:
                continue
            _reached(total, recalls, reached)
            _count(ranked, a, k, weights, scratch[0])
            for t in range(recall.shape[0]):
                events = _sum_events(ranked, a, t, k, weights, scratch)
                _, hits_at, precision_at = scratch
                recall[t, k, a] = hits_at[events, 0] / total
                precision[t, :, k, a] = 0
                before = 0
                for e in range(1, events + 1):
                    after = reached[hits_at[e, 0]]
                    precision[t, before:after, k, a] = precision_at[e, 0]
                    before = after


@njit(cache=True)
def _scratch(ranked, lanes):
    """Room for running sums: of counted detections, and of hits and precision at events."""
    counted, events = ranked.longest
    return (
        np.empty((counted + 1, lanes), dtype=np.int32),
        np.empty((events + 1, lanes), dtype=np.int32),
        np.empty((events + 1, lanes)),
    )


@njit(cache=True, error_model="numpy")
def _reached(total, recalls, reached):
    """By the number of true positives, how many recall thresholds it reaches, as floats."""
    r = 0
    for hits in range(total + 1):
        while r < recalls.size and recalls[r] <= hits / total:
            r += 1
        reached[hits] = r


@njit(cache=True)
def _count(ranked, a, k, weights, counted):
    """Accumulate the weight of the counted detections of an area and category."""
    start, end = ranked.counted_offsets[a, k], ranked.counted_offsets[a, k + 1]
    running = np.zeros(weights.shape[1], dtype=np.int32)
    counted[0] = 0
    for place in range(end - start):
        weight, sums = weights[ranked.counted_image[start + place]], counted[place + 1]
        for lane in range(running.size):
            running[lane] += weight[lane]
            sums[lane] = running[lane]


@njit(cache=True, error_model="numpy")
def _sum_events(ranked, a, t, k, weights, scratch):
    """Fill in hits and interpolated precision at each true positive, from 1; returns how many.

    Precision at a recall is the highest at that recall or beyond. It only falls between true
    positives, so going back over them is enough.
    """
    counted, hits_at, precision_at = scratch
    change = np.zeros(weights.shape[1], dtype=np.int32)
    hits = np.zeros(weights.shape[1], dtype=np.int32)
    count = 0
    hits_at[0] = 0
    for e in range(ranked.event_offsets[a, t, k], ranked.event_offsets[a, t, k + 1]):
        weight, sign = weights[ranked.event_image[e]], np.int32(ranked.event_change[e])
        if sign != 0:
            for lane in range(change.size):
                change[lane] += sign * weight[lane]
        if ranked.event_hit[e]:
            count += 1
            above, hit_row = counted[ranked.event_place[e]], hits_at[count]
            precision_row = precision_at[count]
            for lane in range(hits.size):
                hits[lane] += weight[lane]
                hit_row[lane] = hits[lane]
                precision_row[lane] = hits[lane] / (above[lane] + change[lane] + _SPACING)
    for e in range(count - 1, 0, -1):
        row, beyond = precision_at[e], precision_at[e + 1]
        for lane in range(row.size):
            row[lane] = beyond[lane] if beyond[lane] > row[lane] else row[lane]
    return count


@njit(cache=True)
def _sum_precision(scratch, events, reached):
    """(L,) sum over the recall thresholds of the interpolated precision."""
    _, hits_at, precision_at = scratch
    sums = np.zeros(hits_at.shape[1])
    before = np.zeros(hits_at.shape[1], dtype=np.int32)
    for e in range(1, events + 1):
        for lane in range(sums.size):
            after = reached[lane, hits_at[e, lane]]
            sums[lane] += precision_at[e, lane] * (after - before[lane])
            before[lane] = after
    return sums
