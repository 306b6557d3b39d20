"""What a detector's errors cost it, by their kind: TIDE.

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors",
ECCV 2020, with its thresholds: foreground from IoU 0.5 (t_f), background up to 0.1 (t_b).

The kinds are those of hotcoco's `COCOeval.tide_errors`; the costs are not. hotcoco 1.3 makes every
localization error a true positive, also several of one object or of one that was found; it
leaves a corrected class error in its wrong class; and it adds detections for missed objects
where the paper takes the objects out of the count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco import metrics

from softpool_det.evaluation.matches import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Matches
from softpool_det.evaluation.overlaps import largest_overlaps
from softpool_det.evaluation.results import Detections, GroundTruth

FOREGROUND, BACKGROUND = 0.5, 0.1
FALSE_POSITIVE_KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg")
CLS, LOC, BOTH, DUPE, BKG = range(len(FALSE_POSITIVE_KINDS))
KINDS = (*FALSE_POSITIVE_KINDS, "Miss", "FalsePos", "FalseNeg")
NO_ERROR = -1


def mean_errors(
    ground_truth: GroundTruth,
    detections: Sequence[Detections],
    runs: Sequence[Matches],
    task: str,
) -> dict[str, float]:
    """What AP50 would gain without each kind of error, in percent, mean over runs.

    See :class:`TideErrors` for the kinds.

    Args:
        ground_truth: from `results.read_ground_truth`.
        detections: one result file for each seed.
        runs: the same, matched with the ground truth for the task.
        task: "bbox" or "segm".

    Raises:
        ValueError: there are no runs, or not as many as result files.
    """
    if not runs or len(detections) != len(runs):
        raise ValueError(
            f"detections and runs must pair up, got {len(detections)} files and {len(runs)} runs"
        )
    costs = [
        TideErrors(ground_truth, file, matches, task).costs()
        for file, matches in zip(detections, runs, strict=True)
    ]
    return {kind: float(np.mean([cost[kind] for cost in costs])) for kind in KINDS}


class TideErrors:
    """The errors of one run, and what they cost.

    A false positive at IoU 0.5 is the first of these that fits, its IoU being the largest with
    objects (never crowds) of its image:

    - Loc: 0.1 to 0.5 with an object of its class;
    - Cls: 0.5 or more with an object of another class;
    - Dupe: 0.5 or more with an object of its class that another detection took;
    - Bkg: at most 0.1 with all objects;
    - Both: what is left, 0.1 to 0.5 with an object of another class.

    Miss are the objects that were not found and that are not the best overlap of a Loc or Cls.
    Detections are those of COCO's AP, the 100 best of each image and class; TIDE's own program
    takes the 100 best of an image. Matching is COCO's, so that the AP before is COCO's AP50.

    Args:
        ground_truth, detections: the files.
        matches: of the two, for the task.
        task: "bbox" or "segm".

    Attributes:
        kind: (D,) index into `FALSE_POSITIVE_KINDS`; -1 where a detection is no false positive.
        target: (D,) the object that a Loc or Cls is about, as its place in the ground truth; -1
            elsewhere.
        missed: (G,) bool.
        unfound: (G,) bool, objects that no detection took, missed or not.
    """

    def __init__(
        self, ground_truth: GroundTruth, detections: Detections, matches: Matches, task: str
    ) -> None:
        self._matches = matches
        state = matches.state[0, 0]
        taken = matches.matched[0, state == TRUE_POSITIVE]
        countable = ~matches.object_ignored[0]
        found = np.isin(matches.object_ids, taken) & countable
        self.unfound = countable & ~found
        false = np.flatnonzero(state == FALSE_POSITIVE)
        overlaps = largest_overlaps(ground_truth, detections, matches.entry[false], found, task)
        kinds = np.select(
            [
                (overlaps.same >= BACKGROUND) & (overlaps.same <= FOREGROUND),
                overlaps.other >= FOREGROUND,
                overlaps.taken >= FOREGROUND,
                np.maximum(overlaps.same, overlaps.other) <= BACKGROUND,
            ],
            [LOC, CLS, DUPE, BKG],
            BOTH,
        )
        self.kind = np.full(len(state), NO_ERROR)
        self.kind[false] = kinds
        self.target = np.full(len(state), -1)
        self.target[false] = np.select(
            [kinds == LOC, kinds == CLS], [overlaps.same_object, overlaps.other_object], -1
        )
        self.missed = self.unfound.copy()
        self.missed[self.target[self.target >= 0]] = False

    def counts(self) -> dict[str, int]:
        """How many errors there are of each kind; of FalsePos and FalseNeg, all."""
        by_kind = np.bincount(self.kind[self.kind >= 0], minlength=len(FALSE_POSITIVE_KINDS))
        counts = dict(zip(FALSE_POSITIVE_KINDS, by_kind.tolist(), strict=True))
        counts["Miss"] = int(self.missed.sum())
        counts["FalsePos"] = int((self.kind >= 0).sum())
        counts["FalseNeg"] = int(self.unfound.sum())
        return counts

    def costs(self) -> dict[str, float]:
        """AP50 with one kind of error corrected, less AP50 as it is, in percent of 1.

        The correction of each kind, alone, is the paper's. Cls and Loc: the detection becomes a
        true positive of its target, Cls in the target's class; where the target was found, or a
        detection with a higher score is corrected to it, it is taken away. Both, Dupe and Bkg:
        taken away. Miss: the missed objects are not counted, so that recall is of the others.
        FalsePos: all false positives are taken away. FalseNeg: only found objects are counted.

        A class whose objects are none after Miss or FalseNeg has AP 0, as it had before.
        """
        before = self._precision()
        changed = {kind: self._corrected(kind) for kind in KINDS}
        return {kind: 100 * (after - before) for kind, after in changed.items()}

    def _corrected(self, kind: str) -> float:
        if kind in ("Miss", "FalseNeg"):
            return self._precision(uncounted=self.missed if kind == "Miss" else self.unfound)
        if kind == "FalsePos":
            return self._precision(removed=self.kind >= 0)
        errors = self.kind == FALSE_POSITIVE_KINDS.index(kind)
        return self._precision(removed=errors, corrected=self._best(errors))

    def _best(self, errors: np.ndarray) -> np.ndarray:
        """Of the errors about each object that was not found, the one with the highest score."""
        places = np.flatnonzero(errors & (self.target >= 0))
        places = places[self.unfound[self.target[places]]]
        places = places[np.argsort(-self._matches.score[places], kind="stable")]
        _, first = np.unique(self.target[places], return_index=True)
        return places[first]

    def _precision(
        self,
        removed: np.ndarray | None = None,
        corrected: np.ndarray | None = None,
        uncounted: np.ndarray | None = None,
    ) -> float:
        """AP50, mean over classes with objects, after a correction.

        Args:
            removed: (D,) bool, detections that do not count.
            corrected: places of detections that are true positives of their targets instead.
            uncounted: (G,) bool, objects that do not count.
        """
        matches = self._matches
        classes = len(matches.category_ids)
        countable = ~matches.object_ignored[0]
        here = np.bincount(matches.object_category[countable], minlength=classes)
        counted = countable if uncounted is None else countable & ~uncounted
        objects = np.bincount(matches.object_category[counted], minlength=classes)
        state = matches.state[0, 0].copy()
        if removed is not None:
            state[removed] = IGNORED
        added = np.zeros(0, np.int64) if corrected is None else corrected
        added_category = matches.object_category[self.target[added]]
        found = []
        for k in np.flatnonzero(here):
            start, end = matches.offsets[k : k + 2]
            extra = added[added_category == k]
            scores = np.concatenate([matches.score[start:end], matches.score[extra]])
            true = np.concatenate([state[start:end] == TRUE_POSITIVE, np.ones(len(extra), bool)])
            ignored = np.concatenate([state[start:end] == IGNORED, np.zeros(len(extra), bool)])
            found.append(metrics.average_precision(scores, true, int(objects[k]), ignored))
        return float(np.mean(found)) if found else float("nan")
