"""How far scores are from the share of detections that are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco import metrics

from softpool_det.statistics.matches import IGNORED, TRUE_POSITIVE, Matches

BINS = 10


def calibration(runs: Sequence[Matches], bins: int = BINS) -> dict:
    """Scores against precision at IoU 0.5, and the detection expected calibration error.

    D-ECE is the mean over detections of |mean score - precision| of their bin of scores (Kueppers
    et al., "Multivariate confidence calibration for object detection", CVPR Workshops 2020,
    with bins along the score alone). Right is what COCO's matching at IoU 0.5 makes a true
    positive; detections that it ignores are left out, and classes are pooled. Mind that it says
    nothing of missed objects, and that a file with many detections of low score, as COCO's AP
    invites, is mostly judged by those.

    Args:
        runs: one for each seed.
        bins: number of bins of equal width over [0, 1]; a bin holds its lower end, the last one
            both.

    Returns:
        `error` in [0, 1], mean over runs, and `bins`: for each `low`, `high`, and over the
        detections of all runs together `count`, mean `score` and `precision` (None where a bin is
        empty). Without scores, or with scores outside [0, 1], `error` is None and `bins` is
        empty.
    """
    outcomes = [_outcomes(matches) for matches in runs]
    scores = np.concatenate([score for score, _ in outcomes])
    right = np.concatenate([right for _, right in outcomes])
    if not scores.size or scores.min() < 0 or scores.max() > 1:
        return {"error": None, "bins": []}
    errors = [
        metrics.calibration_error(score, right, bins)[0] for score, right in outcomes if score.size
    ]
    return {
        "error": float(np.mean(errors)),
        "bins": [
            {
                "low": entry["bin_lower"],
                "high": entry["bin_upper"],
                "count": entry["count"],
                "score": entry["avg_confidence"] if entry["count"] else None,
                "precision": entry["avg_accuracy"] if entry["count"] else None,
            }
            for entry in metrics.calibration_curve(scores, right, bins)
        ],
    }


def _outcomes(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    state = matches.state[0, 0]
    counted = state != IGNORED
    return matches.score[counted], state[counted] == TRUE_POSITIVE
