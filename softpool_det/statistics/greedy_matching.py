"""COCO's greedy matching of detections with objects (`pycocotools.COCOeval.evaluateImg`)."""

from __future__ import annotations

import numpy as np
from numba import njit

from softpool_det.coco.protocol import IOU_THRESHOLDS

IGNORED, TRUE_POSITIVE, FALSE_POSITIVE = 0, 1, 2
# A threshold of 1 must be within reach of an IoU that rounding has made less than 1.
_LOWEST_IOU = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)


def match_groups(
    groups: np.ndarray,
    ious: np.ndarray,
    crowd: np.ndarray,
    ignored: np.ndarray,
    object_ids: np.ndarray,
    state: np.ndarray,
    matched: np.ndarray,
) -> None:
    """Fill in what becomes of the detections of every category and image that has both.

    Args:
        groups: (P, 4) int64: first and last + 1 of a group's detections, then of its objects.
        ious: one (detections, objects) block a group, flat, one after the other.
        crowd: (G,) uint8.
        ignored: (A, G) bool: crowd or outside the area.
        object_ids: (G,) int64.
        state: (A, T, D) uint8, what each detection is without a match; changed in place.
        matched: (T, D) int64, zeros; the annotation taken for area "all"; changed in place.
    """
    _match(groups, ious, crowd, ignored, object_ids, _LOWEST_IOU, state, matched)


@njit(cache=True)
def _match(groups, ious, crowd, ignored, object_ids, lowest_iou, state, matched):
    areas, thresholds, _ = state.shape
    start = 0
    for p in range(groups.shape[0]):
        first, end, object_first, object_end = groups[p]
        count = object_end - object_first
        block = ious[start : start + (end - first) * count].reshape(end - first, count)
        start += (end - first) * count
        for a in range(areas):
            order = _ignored_last(ignored[a, object_first:object_end])
            for t in range(thresholds):
                taken = np.zeros(count, dtype=np.bool_)
                for d in range(end - first):
                    g = _best(
                        block[d],
                        order,
                        taken,
                        crowd[object_first:object_end],
                        ignored[a, object_first:object_end],
                        lowest_iou[t],
                    )
                    if g < 0:
                        continue
                    taken[g] = True
                    wanted = not ignored[a, object_first + g]
                    state[a, t, first + d] = TRUE_POSITIVE if wanted else IGNORED
                    if a == 0:
                        matched[t, first + d] = object_ids[object_first + g]


@njit(cache=True)
def _ignored_last(ignored):
    """Places of the objects that count, then of the others, each in their order."""
    order = np.empty(ignored.size, dtype=np.int64)
    place = 0
    for wanted in (False, True):
        for g in range(ignored.size):
            if ignored[g] == wanted:
                order[place] = g
                place += 1
    return order


@njit(cache=True)
def _best(ious, order, taken, crowd, ignored, lowest_iou):
    """Return the free object of highest IoU, one that counts before any ignored; -1 for none.

    Of equal IoU the later one wins. A crowd is never used up.
    """
    best, best_iou = -1, lowest_iou
    for g in order:
        if taken[g] and not crowd[g]:
            continue
        if best >= 0 and not ignored[best] and ignored[g]:
            break
        if ious[g] >= best_iou:
            best, best_iou = g, ious[g]
    return best
