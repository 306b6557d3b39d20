"""How detections that found nothing overlap with the objects of their image, of any class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from softpool_det.evaluation.results import Detections, GroundTruth


@dataclass(frozen=True)
class Overlaps:
    """For each of N detections the largest IoU with objects of its image that are no crowds.

    Attributes:
        same: (N,) with objects of its own class; 0 where there are none.
        other: (N,) with objects of other classes; 0 where there are none.
        same_object, other_object: (N,) the objects, places in the ground truth; -1 for none.
        taken: (N,) with objects of its own class that a detection found.
    """

    same: np.ndarray
    other: np.ndarray
    same_object: np.ndarray
    other_object: np.ndarray
    taken: np.ndarray


def largest_overlaps(
    ground_truth: GroundTruth,
    detections: Detections,
    entries: np.ndarray,
    found: np.ndarray,
    task: str,
) -> Overlaps:
    """Compare detections with all objects of their images.

    Args:
        ground_truth, detections: the files.
        entries: (N,) the detections, places in the result file.
        found: (G,) bool, objects that a detection found.
        task: "bbox" or "segm".

    Raises:
        ValueError: the files have no data for the task.
    """
    truths = ground_truth.boxes if task == "bbox" else ground_truth.masks
    shapes = detections.boxes if task == "bbox" else detections.masks
    if shapes is None:
        raise ValueError(f"{detections.path}: the detections have nothing for {task!r}")
    size = len(entries)
    result = Overlaps(
        np.zeros(size), np.zeros(size), np.full(size, -1), np.full(size, -1), np.zeros(size)
    )
    objects_of = _by_image(ground_truth.object_image, ~ground_truth.crowd.astype(bool))
    for image, places in _by_image(detections.image[entries]).items():
        objects = objects_of.get(image)
        if objects is not None:
            chosen = entries[places]
            ious = mask_utils.iou(_take(shapes, chosen), _take(truths, objects), [0] * len(objects))
            category = detections.category[chosen]
            same = category[:, None] == ground_truth.object_category[objects]
            _put(result.same, result.same_object, places, np.where(same, ious, 0), objects)
            _put(result.other, result.other_object, places, np.where(same, 0, ious), objects)
            result.taken[places] = np.where(same & found[objects], ious, 0).max(axis=1)
    return result


def _put(
    values: np.ndarray, objects: np.ndarray, places: np.ndarray, ious: np.ndarray, ids: np.ndarray
) -> None:
    best = ious.argmax(axis=1)
    values[places] = ious[np.arange(len(places)), best]
    objects[places] = np.where(values[places] > 0, ids[best], -1)


def _by_image(image: np.ndarray, wanted: np.ndarray | None = None) -> dict[int, np.ndarray]:
    """Places of each image's members, rising."""
    places = np.arange(len(image)) if wanted is None else np.flatnonzero(wanted)
    order = places[np.argsort(image[places], kind="stable")]
    images, starts = np.unique(image[order], return_index=True)
    return dict(zip(images.tolist(), np.split(order, starts[1:]), strict=False))


def _take(shapes, places: np.ndarray):
    return shapes[places] if isinstance(shapes, np.ndarray) else [shapes[i] for i in places]
