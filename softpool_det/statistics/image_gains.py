"""Which images gain and which lose from one detector to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco import metrics

from softpool_det.coco.protocol import IOU_THRESHOLDS
from softpool_det.statistics.matches import IGNORED, TRUE_POSITIVE, Matches


def image_gains(
    baseline: Sequence[Matches], candidate: Sequence[Matches], candidate_name: str
) -> list[dict]:
    """AP of every image alone, for two detectors, by falling gain.

    AP of an image is COCO's AP on a data set of that image, its mean over the ten IoU thresholds
    and the classes with objects in it (see :func:`image_precision`). It serves to choose pictures
    to look at, not to measure: false positives of classes that have no object in the image are
    left out, as COCO leaves out classes without objects; scores compete within the image only; and
    the mean of these APs is not the AP. Images without objects (crowds are none) have no AP and
    are left out.

    Args:
        baseline, candidate: one run for each seed, of the same ground truth.
        candidate_name: put into every row.

    Returns:
        Rows with `candidate` (its name), `image_id`, `baseline` and `candidate_ap` (percent, mean
        over the runs) and `gain`, their difference. Equal gains are in the order of the image ids.
    """
    first, second = (
        100 * np.mean([image_precision(matches) for matches in runs], axis=0)
        for runs in (baseline, candidate)
    )
    gain = second - first
    order = np.argsort(-gain, kind="stable")
    image_ids = baseline[0].image_ids.tolist()
    return [
        {
            "candidate": candidate_name,
            "image_id": image_ids[i],
            "baseline": float(first[i]),
            "candidate_ap": float(second[i]),
            "gain": float(gain[i]),
        }
        for i in order
        if not np.isnan(gain[i])
    ]


def image_precision(matches: Matches) -> np.ndarray:
    """(I,) AP in [0, 1] of each image alone; NaN for those without objects."""
    images = len(matches.image_ids)
    countable = ~matches.object_ignored[0]
    pairs, objects = np.unique(
        matches.object_category[countable].astype(np.int64) * images
        + matches.object_image[countable],
        return_counts=True,
    )
    # Stable: in each category and image the order stays that of falling score.
    keys = matches.category.astype(np.int64) * images + matches.image
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys, pairs, side="left", sorter=order)
    ends = np.searchsorted(keys, pairs, side="right", sorter=order)
    total, classes = np.zeros(images), np.zeros(images)
    for pair, number, start, end in zip(
        pairs.tolist(), objects.tolist(), starts.tolist(), ends.tolist(), strict=True
    ):
        detections = order[start:end]
        image = pair % images
        total[image] += _precision(matches.state[0][:, detections], number)
        classes[image] += 1
    with np.errstate(invalid="ignore"):
        return total / classes


def _precision(state: np.ndarray, objects: int) -> float:
    """AP of (T, D) states by falling score, mean over the T thresholds."""
    true = state == TRUE_POSITIVE
    if not true.any():
        return 0.0
    # The order is there already: scores that fall say so.
    scores = -np.arange(state.shape[1], dtype=np.float64)
    found = [
        metrics.average_precision(scores, true[t], objects, state[t] == IGNORED)
        for t in range(len(IOU_THRESHOLDS))
        if true[t].any()
    ]
    return sum(found) / len(IOU_THRESHOLDS)
