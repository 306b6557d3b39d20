"""Ranked detections, cut down to what average precision depends on.

A detection that finds nothing and counts says only "one more" to the precision of all after it.
So for each area and category there is one list of the detections that count at most thresholds,
and for each threshold the few other *events* that matter: true positives, at which alone the
interpolated precision can change, and detections that count at this threshold but not in that
list, or the other way round (matched with a crowd or with an object outside the area).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from softpool_det.statistics.greedy_matching import IGNORED, TRUE_POSITIVE
from softpool_det.statistics.matches import Matches


class Ranking(NamedTuple):
    """P detections that count and E events; a tuple of arrays, which numba can take.

    Attributes:
        counted_image: (P,) int32; by area, then category, then rank.
        counted_offsets: (A, K + 1) int64 into `counted_image`.
        event_image: (E,) int32; by area, IoU threshold, category, then rank.
        event_place: (E,) int32, how many of the counted detections of that area and category
            come before the event or are the event.
        event_hit: (E,) bool, whether it is a true positive.
        event_change: (E,) int8: 1 where the event counts but is not in the list, -1 where it is
            in the list but does not count, else 0.
        event_offsets: (A, T, K + 1) int64 into the events.
        longest: (2,) int64: the most counted detections, and the most events, of one category.
    """

    counted_image: np.ndarray
    counted_offsets: np.ndarray
    event_image: np.ndarray
    event_place: np.ndarray
    event_hit: np.ndarray
    event_change: np.ndarray
    event_offsets: np.ndarray
    longest: np.ndarray


def ranking(matches: Matches) -> Ranking:
    """Rank the detections of one run; images are indices into `matches.image_ids`."""
    return ranked_groups(matches.offsets, matches.image, matches.state)


def merged_ranking(baseline: Matches, candidate: Matches) -> Ranking:
    """Both runs' detections ranked together.

    Image i of the baseline has the index i, that of the candidate I + i: with a weight of 1 for
    one of the two and 0 for the other, any mixture of the runs is evaluated. Equal scores are
    ordered as they would be in the mixture's own result file.
    """
    runs = (baseline, candidate)
    image = np.concatenate([run.image for run in runs])
    category = np.concatenate([run.category for run in runs])
    score = np.concatenate([run.score for run in runs])
    tie_break = np.concatenate([run.tie_break for run in runs])
    # Stable: in one image equal scores of one run keep their order.
    order = np.lexsort((image, tie_break, -score, category))
    shift = np.repeat([0, len(baseline.image_ids)], [len(run.image) for run in runs])
    state = np.concatenate([run.state for run in runs], axis=2)
    return ranked_groups(
        baseline.offsets + candidate.offsets,
        (image + shift)[order].astype(np.int32),
        state[:, :, order],
    )


def ranked_groups(offsets: np.ndarray, image: np.ndarray, state: np.ndarray) -> Ranking:
    """Rank the detections in K groups, such as the categories.

    Args:
        offsets: (K + 1,) int64, where the groups begin and end.
        image: (D,) int32.
        state: (A, T, D) uint8.
    """
    areas, thresholds, _ = state.shape
    # At the highest threshold few detections match, so few depart from it.
    usual = state[:, -1] != IGNORED
    counted = [np.flatnonzero(row) for row in usual]
    counted_offsets = _running([np.searchsorted(places, offsets) for places in counted])
    up_to = usual.cumsum(axis=1, dtype=np.int32)
    events, cuts, places, changes, hits = [], [], [], [], []
    for a in range(areas):
        before = np.concatenate(([0], up_to[a]))[offsets]
        for t in range(thresholds):
            counts = state[a, t] != IGNORED
            hit = state[a, t] == TRUE_POSITIVE
            event = np.flatnonzero(hit | (counts != usual[a]))
            cut = np.searchsorted(event, offsets)
            events.append(image[event])
            cuts.append(cut)
            places.append(up_to[a, event] - np.repeat(before[:-1], np.diff(cut)).astype(np.int32))
            changes.append(counts[event].astype(np.int8) - usual[a, event])
            hits.append(hit[event])
    event_offsets = _running(cuts).reshape(areas, thresholds, len(offsets))
    longest = [np.diff(o, axis=-1).max(initial=0) for o in (counted_offsets, event_offsets)]
    return Ranking(
        counted_image=image[np.concatenate(counted)],
        counted_offsets=counted_offsets,
        event_image=np.concatenate(events),
        event_place=np.concatenate(places),
        event_hit=np.concatenate(hits),
        event_change=np.concatenate(changes),
        event_offsets=event_offsets,
        longest=np.array(longest, dtype=np.int64),
    )


def _running(offsets: list[np.ndarray]) -> np.ndarray:
    """Offsets of several lists, as offsets into the lists put one behind the other."""
    table = np.stack(offsets).astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(table[:-1, -1])))
    return table + starts[:, None]
