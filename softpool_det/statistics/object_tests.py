"""Objects that one detector finds and the other misses, and whether that can be chance.

McNemar's test on the ground truth: the counterpart for detectors of the SoftPool paper's Table 4,
which counts the images that one classifier gets right and the other wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, chi2

from softpool_det.coco.protocol import IOU_THRESHOLDS
from softpool_det.statistics.matches import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Matches

ANY, BEST_F1 = "any", "best F1"
IOUS = (0.5, 0.75)
# Discordant pairs below which the chi-square is a poor approximation to the binomial.
EXACT_BELOW = 25


def object_tests(
    baseline: Sequence[Matches], candidate: Sequence[Matches], seeds: Sequence[int]
) -> list[dict]:
    """Compare two detectors object by object, one row for each IoU, reading of scores and seed.

    An object is found if a detection took it in COCO's matching, area "all". Crowds do not count.
    With scores "any" every detection counts that COCO sees, the 100 best of an image and category.
    With "best F1" those count whose score is at least the arm's own threshold, see
    :func:`best_f1_threshold`: how a detector would be used.

    Args:
        baseline, candidate: one run for each seed, of the same ground truth.
        seeds: the runs' seeds; runs are paired by position.

    Returns:
        Rows with `iou`, `scores`, `thresholds` (baseline's, candidate's; None for "any" and
        where there is nothing to choose from), `seed`, counts of objects in `both`,
        `only_baseline`, `only_candidate` and `neither`, and the results of :func:`mcnemar_test` and
        :func:`clustered_test`.

    Raises:
        ValueError: the numbers of runs and seeds differ, or the ground truths do.
    """
    if not len(baseline) == len(candidate) == len(seeds):
        raise ValueError(
            "baseline, candidate and seeds must pair up, got "
            f"{len(baseline)} and {len(candidate)} runs and {len(seeds)} seeds"
        )
    rows = []
    for first, second, seed in zip(baseline, candidate, seeds, strict=True):
        if not np.array_equal(first.object_ids, second.object_ids):
            raise ValueError(f"the runs of seed {seed} were matched with different ground truths")
        for iou in IOUS:
            for scores in (ANY, BEST_F1):
                rows.append(
                    {"iou": iou, "scores": scores, "seed": seed, **_row(first, second, iou, scores)}
                )
    return rows


def _row(baseline: Matches, candidate: Matches, iou: float, scores: str) -> dict:
    thresholds: list[float | None] = [None, None]
    if scores == BEST_F1:
        thresholds = [best_f1_threshold(matches, iou) for matches in (baseline, candidate)]
    first, second = (
        found_objects(matches, iou, -np.inf if threshold is None else threshold)
        for matches, threshold in zip((baseline, candidate), thresholds, strict=True)
    )
    countable = ~baseline.object_ignored[0]
    only_baseline = first & ~second & countable
    only_candidate = second & ~first & countable
    counts = {
        "both": first & second & countable,
        "only_baseline": only_baseline,
        "only_candidate": only_candidate,
        "neither": ~first & ~second & countable,
    }
    images = len(baseline.image_ids)
    lost, gained = (
        np.bincount(baseline.object_image[objects], minlength=images)
        for objects in (only_baseline, only_candidate)
    )
    return {
        "thresholds": thresholds,
        **{name: int(objects.sum()) for name, objects in counts.items()},
        **mcnemar_test(int(only_baseline.sum()), int(only_candidate.sum())),
        **clustered_test(gained - lost),
    }


def found_objects(matches: Matches, iou: float, threshold: float = -np.inf) -> np.ndarray:
    """(G,) bool: the objects that a detection of at least that score took at an IoU threshold."""
    t = _index(iou)
    takes = (matches.state[0, t] == TRUE_POSITIVE) & (matches.score >= threshold)
    return np.isin(matches.object_ids, matches.matched[t, takes])


def best_f1_threshold(matches: Matches, iou: float) -> float | None:
    """Find the score threshold with the best F1 over all classes together; the highest such.

    F1 is 2 TP / (2 TP + FP + FN) of the detections with at least that score, of all classes
    pooled. None without detections to choose from.
    """
    t = _index(iou)
    state = matches.state[0, t]
    counted = np.flatnonzero(state != IGNORED)
    if not counted.size:
        return None
    order = counted[np.argsort(-matches.score[counted], kind="stable")]
    scores = matches.score[order]
    true = np.cumsum(state[order] == TRUE_POSITIVE)
    false = np.cumsum(state[order] == FALSE_POSITIVE)
    objects = (~matches.object_ignored[0]).sum()
    # A threshold takes all detections of a score or none.
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    f1 = 2 * true[last] / (true[last] + false[last] + objects)
    return float(scores[last[np.argmax(f1)]])


def mcnemar_test(only_baseline: int, only_candidate: int) -> dict:
    """McNemar's test, two-sided: is it as likely to be found by the one alone as by the other?

    With fewer than :data:`EXACT_BELOW` objects in the two counts together the exact binomial test
    is taken; it has no statistic.

    Returns:
        `test` ("chi-square" or "exact binomial"), `statistic` (None for the latter), `p_value`.
    """
    if only_baseline + only_candidate < EXACT_BELOW:
        p_value = exact_mcnemar(only_baseline, only_candidate)
        return {"test": "exact binomial", "statistic": None, "p_value": p_value}
    statistic, p_value = corrected_mcnemar(only_baseline, only_candidate)
    return {"test": "chi-square", "statistic": statistic, "p_value": p_value}


def corrected_mcnemar(only_baseline: int, only_candidate: int) -> tuple[float, float]:
    """McNemar's statistic with continuity correction, (|b - c| - 1)^2 / (b + c), and its p-value.

    McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947). The counts b and c are not both 0.
    """
    count = only_baseline + only_candidate
    statistic = (abs(only_baseline - only_candidate) - 1) ** 2 / count
    return statistic, float(chi2.sf(statistic, 1))


def exact_mcnemar(only_baseline: int, only_candidate: int) -> float:
    """Return the p-value of the binomial test that McNemar's statistic approximates."""
    count = only_baseline + only_candidate
    return float(binomtest(only_baseline, count).pvalue) if count else 1.0


def clustered_test(differences: np.ndarray) -> dict:
    """McNemar's test where objects of one image are alike: images are the units.

    The statistic (sum of d)^2 / (sum of d^2), chi-square with one degree of freedom, rests on the
    independence of images alone. It is the test of Obuchowski ("On the comparison of correlated
    proportions for clustered data", Statistics in Medicine 17, 1998, 1495-1507) in the short form
    of Yang, Sun and Hardin ("A note on the tests for clustered matched-pair binary data",
    Biometrical Journal 52, 2010), except for Obuchowski's factor (K - 1) / K with K images. (That
    of Durkalski et al., "Analysis of clustered matched-pair data", Statistics in Medicine 22 (2003)
    2417-2428, is of the same form with d divided by the image's number of objects; here each object
    counts the same, as in AP.) With at most one object an image it is McNemar's statistic
    without continuity correction.

    Args:
        differences: (I,) integers d: in each image, the objects that the candidate alone found less
            those that the baseline alone found.

    Returns:
        `clustered_statistic` and `clustered_p_value` (two-sided; 0 and 1 where all d are 0).
    """
    squares = float((differences.astype(np.float64) ** 2).sum())
    statistic = float(differences.sum()) ** 2 / squares if squares else 0.0
    return {
        "clustered_statistic": statistic,
        "clustered_p_value": float(chi2.sf(statistic, 1)),
    }


def _index(iou: float) -> int:
    place = int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))
    if abs(IOU_THRESHOLDS[place] - iou) > 1e-9:
        raise ValueError(f"iou must be one of COCO's 0.50, 0.55, ..., 0.95, got {iou}")
    return place
