"""What a detector's errors cost it, by their kind: TIDE.

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors",
ECCV 2020, with its thresholds: foreground from IoU 0.5, background up to 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import COCO, COCOeval

from softpool_det.coco.entries import collector_off
from softpool_det.coco.reading import Detections, GroundTruth
from softpool_det.statistics.matches import IGNORED, Matches

FOREGROUND, BACKGROUND = 0.5, 0.1
# As TIDE calls them, and hotcoco.
_NAMES = {kind: kind for kind in ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")}
_NAMES |= {"FalsePos": "FP", "FalseNeg": "FN"}
KINDS = tuple(_NAMES)


@dataclass(frozen=True)
class TideErrors:
    """The errors of one run.

    Attributes:
        counts: how many there are of "Cls", "Loc", "Both", "Dupe", "Bkg" and "Miss".
        costs: what AP50 would gain without the errors of a kind, in percent, by `KINDS`.
    """

    counts: dict[str, int]
    costs: dict[str, float]


def mean_errors(
    ground_truth: GroundTruth,
    detections: Sequence[Detections],
    runs: Sequence[Matches],
    task: str,
) -> dict[str, float]:
    """Average over runs what AP50 would gain without each kind of error, in percent.

    See :func:`tide_errors` for the kinds.

    Args:
        ground_truth: from `results.read_ground_truth`.
        detections: one result file for each seed.
        runs: the same, matched with the ground truth for the task.
        task: "bbox" or "segm".

    Raises:
        ValueError: no runs, or not as many as result files.
    """
    if not runs or len(detections) != len(runs):
        raise ValueError(
            f"detections and runs must pair up, got {len(detections)} files and {len(runs)} runs"
        )
    costs = [
        tide_errors(ground_truth, file, matches, task).costs
        for file, matches in zip(detections, runs, strict=True)
    ]
    return {kind: float(np.mean([cost[kind] for cost in costs])) for kind in KINDS}


@collector_off()
def tide_errors(
    ground_truth: GroundTruth, detections: Detections, matches: Matches, task: str
) -> TideErrors:
    """Classify the errors of one run, by kind.

    A false positive at IoU 0.5 is the first of these that fits, its IoU being the largest with
    objects of its image:

    - Loc: 0.1 to 0.5 with an object of its class;
    - Cls: 0.5 or more with an object of another class;
    - Dupe: 0.5 or more with an object of its class that another detection took;
    - Bkg: at most 0.1 with all objects;
    - Both: what is left, 0.1 to 0.5 with an object of another class.

    Miss are the objects that were not found and that no Loc or Cls is about. The cost of a kind is
    the gain of AP50 from its correction alone: a Loc or Cls becomes a true positive of its object,
    or goes away where the object was found or another Loc or Cls about it has a higher score; Both,
    Dupe and Bkg go away; missed objects are not counted. FalsePos is the gain without any false
    positive, FalseNeg that with found objects alone counted. Costs do not add up to what is
    missing from 100.

    The numbers are hotcoco's, and those of TIDE's own program where no image has more than 100
    detections: it takes the 100 best of an image, this those of each image and class, as COCO's AP
    does. hotcoco counts crowds as objects here; TIDE leaves them out, so crowds, and what COCO
    ignores because of them, are kept from it.

    Args:
        ground_truth, detections: the files.
        matches: of the two, for the task.
        task: "bbox" or "segm".

    Returns:
        The errors; costs are NaN without objects or detections.

    Raises:
        ValueError: the files have no data for the task.
    """
    objects = np.flatnonzero(ground_truth.crowd == 0)
    entries = matches.entry[matches.state[0, 0] != IGNORED]
    if not objects.size or not entries.size:
        # Without found objects AP cannot gain.
        counts = {**dict.fromkeys(KINDS[:6], 0), "Miss": objects.size}
        return TideErrors(counts, dict.fromkeys(KINDS, float("nan")))
    truth = COCO(_truth(ground_truth, objects, task))
    found = truth.load_res(_results(ground_truth, detections, entries, task))
    evaluation = COCOeval(truth, found, task)
    evaluation.params.iou_thrs = [FOREGROUND]
    evaluation.evaluate()
    errors = evaluation.tide_errors(FOREGROUND, BACKGROUND)
    costs = {kind: 100 * errors["delta_ap"][name] for kind, name in _NAMES.items()}
    return TideErrors(errors["counts"], costs)


def _truth(ground_truth: GroundTruth, objects: np.ndarray, task: str) -> dict:
    """Return the ground truth without crowds, as COCO's dict."""
    # Images and categories are numbered from 1: their ids may be text.
    sizes = ground_truth.image_sizes.tolist()
    key = "bbox" if task == "bbox" else "segmentation"
    shapes = ground_truth.boxes.tolist() if task == "bbox" else ground_truth.masks
    return {
        "images": [
            {"id": image_id, "height": height, "width": width}
            for image_id, (height, width) in enumerate(sizes, 1)
        ],
        "categories": [
            {"id": category_id, "name": name}
            for category_id, name in enumerate(ground_truth.category_names, 1)
        ],
        "annotations": [
            {
                "id": int(ground_truth.object_ids[i]),
                "image_id": int(ground_truth.object_image[i]) + 1,
                "category_id": int(ground_truth.object_category[i]) + 1,
                "area": float(ground_truth.areas[i]),
                "iscrowd": 0,
                key: shapes[i],
            }
            for i in objects.tolist()
        ],
    }


def _results(
    ground_truth: GroundTruth, detections: Detections, entries: np.ndarray, task: str
) -> np.ndarray | list[dict]:
    """Entries of the result file, with what the task needs; boxes as COCO's array of 7 columns."""
    image, category = detections.image[entries] + 1, detections.category[entries] + 1
    score, shapes = detections.score[entries], detections.shapes(task)
    if task == "bbox":
        return np.column_stack([image, shapes[entries], score, category])
    return [
        {"image_id": i, "category_id": c, "score": s, "segmentation": shapes[entry]}
        for i, c, s, entry in zip(
            image.tolist(), category.tolist(), score.tolist(), entries.tolist(), strict=True
        )
    ]
