"""Which images gain and which lose from one detector to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softpool_det.statistics.average_precision import mean_precisions
from softpool_det.statistics.matches import Matches
from softpool_det.statistics.ranking import ranked_groups


def image_gains(
    baseline: Sequence[Matches], candidate: Sequence[Matches], candidate_name: str
) -> list[dict]:
    """AP of every image alone, for two detectors, by falling gain.

    AP of an image is COCO's AP on a data set of that image, its mean over the ten IoU thresholds
    and the classes with objects in it (see :func:`image_precision`). It serves to choose pictures
    to look at, not to measure: false positives of classes that have no object in the image are
    left out, as COCO leaves out classes without objects; scores compete within the image only; and
    the mean of these APs is not the AP. Images without objects (crowds do not count) have no AP and
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
    there = np.flatnonzero(np.isin(keys, pairs))
    order = there[np.argsort(keys[there], kind="stable")]
    offsets = np.searchsorted(keys[order], np.append(pairs, images * len(matches.category_ids)))
    ranked = ranked_groups(offsets, matches.image[order], matches.state[:1, :, order])
    precision = mean_precisions(ranked, objects[None], images)[0].mean(axis=0)
    image = pairs % images
    with np.errstate(invalid="ignore"):
        return np.bincount(image, precision, images) / np.bincount(image, minlength=images)
