"""What a reader should know of the files before believing the figures, a sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from softpool_det.coco.protocol import TASKS
from softpool_det.coco.reading import Detections, GroundTruth

_SHAPES = {"bbox": "boxes", "segm": "masks"}
# Shares of images with objects but no detection, and of boxes that extend beyond their images,
# which are worth a remark: few detectors that saw all images reach them.
_EMPTY_IMAGES, _LEAVING_BOXES = 0.05, 0.2
# Of the image's side, by which a box may extend beyond it: not all detectors clip.
_MARGIN = 0.1
# AP that shows in two digits.
_VISIBLE = 0.01


def file_remarks(truth: GroundTruth, detections: Mapping[str, Sequence[Detections]]) -> list[str]:
    """Sentences on what the files lack or seem to mean otherwise.

    Args:
        truth: from `results.read_ground_truth`.
        detections: by arm, from `results.read_detections`.
    """
    remarks = []
    if truth.computed_areas:
        remarks.append(
            f"{truth.path}: {truth.computed_areas:,} of {len(truth.areas):,} annotations have no "
            "area. It is computed from the mask or, without a mask, from the box."
        )
    remarks += _box_remark(truth.path, truth.boxes, truth.image_sizes[truth.object_image])
    for file in (file for arm in detections.values() for file in arm):
        remarks += _coverage_remark(truth, file)
        if file.boxes is not None:
            remarks += _box_remark(file.path, file.boxes, truth.image_sizes[file.image])
    return remarks


def skipped_remarks(
    truth: GroundTruth, detections: Mapping[str, Sequence[Detections]], tasks: Sequence[str]
) -> list[str]:
    """Name each task that some file has and that is not among the compared `tasks`."""
    files = [file for arm in detections.values() for file in arm]
    skipped = [t for t in TASKS if t not in tasks and any(t in file.tasks for file in files)]
    return [
        f"{_SHAPES[task].capitalize()} are not compared: "
        f"{next((f.path for f in files if task not in f.tasks), truth.path)} has none."
        for task in skipped
    ]


def tie_remarks(task: str, ties: Mapping[str, Mapping], metrics: Mapping[str, Mapping]) -> list:
    """Name each arm whose AP depends on the order of equal scores, in a sentence.

    Args:
        task: "bbox" or "segm".
        ties: by arm, from `ties.tie_effects`.
        metrics: by arm, entries of comparison.json.
    """
    return [
        f"{name}: {100 * found['share']:.0f} % of its {_SHAPES[task]} have the same score as "
        f"another one of their class. AP depends on their order: it is {found['least']:.2f} with "
        f"the wrong ones first, {found['most']:.2f} with the right ones first, "
        f"{metrics[name]['AP']['value']:.2f} in the random order used here and "
        f"{found['file_order']:.2f} in the order of the file (pycocotools)."
        for name, found in ties.items()
        if max(found["most"], found["file_order"]) - min(found["least"], found["file_order"])
        >= _VISIBLE
    ]


def _coverage_remark(truth: GroundTruth, file: Detections) -> list[str]:
    images = np.unique(truth.object_image)
    empty = len(np.setdiff1d(images, file.image))
    if not len(file.image) or empty < _EMPTY_IMAGES * len(images):
        return []
    return [
        f"{file.path} has no detections in {empty:,} of the {len(images):,} images with objects; "
        "these objects count as missed. If the detector was not run on them, use a ground truth "
        "without them."
    ]


def _box_remark(path: Path, boxes: np.ndarray, sizes: np.ndarray) -> list[str]:
    """Look for (N, 4) boxes x, y, width, height that leave their images of (N, 2) height, width."""
    known = (sizes > 0).all(axis=1)
    if not known.any():
        return []
    first, extent, limit = boxes[known, :2], boxes[known, 2:], sizes[known, ::-1]

    def inside(last: np.ndarray) -> np.ndarray:
        margin = _MARGIN * limit
        fits = (first >= -margin) & (last >= first) & (last <= limit + margin)
        return np.asarray(fits.all(axis=1))

    leaving = 1 - inside(first + extent).mean()
    if leaving < _LEAVING_BOXES:
        return []
    as_corners = inside(extent).mean() > 1 - _LEAVING_BOXES
    guess = (
        "They look like [x1, y1, x2, y2]"
        if as_corners
        else "They may belong to resized or different images"
    )
    return [
        f"{path}: {100 * leaving:.0f} % of its boxes extend beyond their image. {guess}; "
        "COCO's are [x, y, width, height] in pixels of the images as the ground truth has them."
    ]
