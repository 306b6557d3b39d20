"""Annotation files of trainings and their evaluations: read, and searched for faulty entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from softpool_det.coco import columns
from softpool_det.coco.checks import (
    MISSING,
    TRAINING,
    Fault,
    all_finite,
    area_fault,
    box_fault,
    category_fault,
    category_id_fault,
    crowd_fault,
    image_fault,
    image_id_fault,
    polygons_fault,
)
from softpool_det.coco.entries import TWICE, Entries, collector_off, read_json, repeated
from softpool_det.coco.masks import compressed

# Annotations whose polygons are checked together: a processor's cache holds their coordinates.
_BLOCK = 2**10


@collector_off()
def read_annotations(
    path: Path, needed: Sequence[str] = ("images", "categories", "annotations")
) -> dict[str, Any]:
    """Read an annotation file whose images, categories and ids are right.

    Args:
        path: the file.
        needed: lists that it must have; others become empty ones.

    Raises:
        OSError: it cannot be read.
        DataError: it is not such a file; names the entry.
    """
    data = read_json(path, plain=True)
    for key in ("images", "categories", "annotations"):
        # COCO's test sets have no annotations.
        if key not in needed and isinstance(data, dict):
            data.setdefault(key, [])
        entries = Entries(path, key, data, TRAINING, may_be_empty=key == "annotations")
        # The last of two images or categories would win, with the other one's objects, so leaving
        # one out does not help. Of annotations it does, see below.
        if key == "annotations":
            entries.ids()
        else:
            entries.unique_ids()
            entries.check(image_fault if key == "images" else category_fault)
    return data


def numbered_faults(
    path: Path, data: dict[str, Any], masks: bool = False
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Find the annotations that cannot be right.

    Args:
        path: of the file.
        data: from :func:`read_annotations`.
        masks: each needs a mask that can be evaluated, too.

    Yields:
        Place in the list, how an error calls the entry, and what is wrong with it.
    """
    entries = Entries(path, "annotations", data, TRAINING, may_be_empty=True)
    categories = {category["id"]: place for place, category in enumerate(data["categories"])}
    images = {image["id"]: place for place, image in enumerate(data["images"])}
    again = set(repeated(entries.column("id")))
    right = _surely_right(entries, categories, images)
    if masks:
        right[:] = False
    right[list(again)] = False
    for index in np.flatnonzero(~right).tolist():
        annotation = entries.entries[index]
        reason: Fault | str | None = TWICE
        if index not in again:
            reason = _fault(annotation, categories, images, data["images"])
        if masks and reason is None:
            reason = _mask_fault(annotation, data["images"][images[annotation["image_id"]]])
        if reason is not None:
            yield index, (entries.name(index), str(reason))


def _surely_right(
    entries: Entries, categories: dict[Any, int], images: dict[Any, int]
) -> np.ndarray:
    """(N,) bool: annotations that :func:`_fault` would find right, without calling it.

    860,000 of them one by one would take more than a minute.
    """
    annotations = entries.entries
    right = columns.places(entries.column("image_id"), images, TRAINING) >= 0
    right &= columns.places(entries.column("category_id"), categories, TRAINING) >= 0
    right &= columns.are_boxes(columns.boxes(entries.column("bbox")))
    areas = columns.numbers([0 if a.get("area") is None else a["area"] for a in annotations])
    right &= np.isfinite(areas) & (areas >= 0)
    crowd = columns.numbers([a.get("iscrowd", 0) for a in annotations])
    rare = np.array(["ignore" in a or "keypoints" in a for a in annotations], dtype=bool)
    right &= ~rare & ((crowd == 0) | (crowd == 1))
    segmentations = [a.get("segmentation") for a in annotations]
    for start in range(0, len(annotations), _BLOCK):
        block = segmentations[start : start + _BLOCK]
        empty = np.array([not segmentation for segmentation in block])
        right[start : start + _BLOCK] &= columns.have_area(block) | empty
    return right


def _fault(
    annotation: dict[str, Any],
    categories: dict[Any, int],
    images: dict[Any, int],
    records: list[dict[str, Any]],
) -> Fault | str | None:
    image_id = annotation.get("image_id", MISSING)
    return (
        image_id_fault(image_id, images, TRAINING, "this file")
        or category_id_fault(annotation.get("category_id", MISSING), categories, TRAINING)
        or box_fault(annotation.get("bbox", MISSING), TRAINING)
        or _other_fault(annotation)
        or _segmentation_fault(annotation, records[images[image_id]])
        or area_fault(annotation.get("area"), TRAINING)
    )


def _other_fault(annotation: dict[str, Any]) -> Fault | None:
    """Check what only some files have."""
    if annotation.get("ignore", 0) != 0:
        return Fault("ignore", annotation["ignore"], "0, all that Detectron2 takes")
    if annotation.get("keypoints") and not all_finite(annotation["keypoints"]):
        return Fault("keypoints", annotation["keypoints"], "finite numbers")
    return crowd_fault(annotation.get("iscrowd", 0))


def _segmentation_fault(annotation: dict[str, Any], image: dict[str, Any]) -> Fault | str | None:
    segmentation, box = annotation.get("segmentation"), annotation["bbox"]
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        try:
            area = float(mask_utils.area(compressed(segmentation, *_size(image))))
        except ValueError as error:
            return str(error)
    elif fault := polygons_fault(segmentation):
        return fault
    else:
        area = sum(_polygon_area(polygon) for polygon in segmentation)
    # A point or a line as a box and as a mask, as COCO has, is an empty object that Detectron2
    # leaves out by itself.
    if area == 0 and min(box[2:]) > 0:
        return Fault("segmentation", segmentation, f"a mask with an area: its bbox is {box!r:.60}")
    return None


def _mask_fault(annotation: dict[str, Any], image: dict[str, Any]) -> str | None:
    """Check a mask of a ground truth for masks; a training leaves such objects out."""
    try:
        compressed(annotation.get("segmentation") or None, *_size(image))
    except ValueError as error:
        return f"{error}; AP of masks needs one"
    return None


def _polygon_area(polygon: list[float]) -> float:
    x, y = polygon[0::2], polygon[1::2]
    twice = sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(y)))
    return abs(twice) / 2


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Return height and width in pixels, 0 where they are not known."""
    return image.get("height") or 0, image.get("width") or 0
