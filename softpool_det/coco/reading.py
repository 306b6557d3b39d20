"""COCO ground truth and result files of any framework, read and checked into arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from softpool_det.coco import columns
from softpool_det.coco.checks import (
    GROUND_TRUTH,
    RESULTS,
    area_fault,
    category_fault,
    image_fault,
    score_fault,
    segmentation_fault,
)
from softpool_det.coco.entries import Entries, collector_off, places_of, read_json
from softpool_det.coco.masks import area_of, compressed
from softpool_det.coco.protocol import TASKS
from softpool_det.io.data_errors import DataError


@dataclass(frozen=True)
class GroundTruth:
    """Images, categories and objects; I, K and G of them.

    Objects lie category after category, in each image after image, then as in the file.

    Attributes:
        path: the file.
        image_ids: (I,) int64, or text as objects; rising.
        image_sizes: (I, 2) int64, height and width in pixels; 0 where the file has none.
        file_names: I names of image files, None where the file has none.
        category_ids: (K,) int64, or text as objects; rising.
        category_names: K names, all different, in the order of `category_ids`; where the file has
            one twice, with their ids.
        object_ids: (G,) int64, from 1.
        object_image: (G,) int32, index into `image_ids`.
        object_category: (G,) int32, index into `category_ids`.
        boxes: (G, 4) float64: x, y, width, height in pixels.
        areas: (G,) float64 as the file gives them: pixels of the mask, where there are masks.
        computed_areas: how many of these the file does not give.
        crowd: (G,) uint8, 1 for a crowd.
        segmentations: G polygons or run-length encodings, None for an object without; None where
            no object has one.
    """

    path: Path
    image_ids: np.ndarray
    image_sizes: np.ndarray
    file_names: tuple
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    object_ids: np.ndarray
    object_image: np.ndarray
    object_category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    computed_areas: int
    crowd: np.ndarray
    segmentations: tuple | None

    @cached_property
    def masks(self) -> list[dict]:
        """G compressed run-length encodings.

        Raises:
            ValueError: an object has no mask, or one that cannot be read.
        """
        if self.segmentations is None:
            raise ValueError(f"{self.path}: no annotation has a segmentation")
        sizes = self.image_sizes[self.object_image].tolist()
        masks = []
        for object_id, segmentation, (height, width) in zip(
            self.object_ids.tolist(), self.segmentations, sizes, strict=True
        ):
            try:
                masks.append(compressed(segmentation, height, width))
            except ValueError as error:
                raise ValueError(f"{self.path}: annotation {object_id}: {error}") from error
        return masks


@dataclass(frozen=True)
class Detections:
    """The entries of a result file, in its order; N of them.

    Attributes:
        path: the file.
        image: (N,) int32, index into the ground truth's `image_ids`.
        category: (N,) int32, index into its `category_ids`.
        score: (N,) float64, finite.
        boxes: (N, 4) float64: x, y, width, height in pixels; None where entries have none.
        masks: N compressed run-length encodings; None where entries have none.
    """

    path: Path
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    boxes: np.ndarray | None
    masks: list[dict] | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """What can be evaluated, "bbox", "segm" or both."""
        there = {"bbox": self.boxes, "segm": self.masks}
        return tuple(task for task, values in there.items() if values is not None)

    def shapes(self, task: str) -> Any:
        """Return what the task compares: boxes or masks.

        Raises:
            ValueError: unknown task, or one that the file has no data for.
        """
        if task not in TASKS:
            raise ValueError(f"task={task!r}, must be one of {', '.join(TASKS)}")
        shapes = self.boxes if task == "bbox" else self.masks
        if shapes is None:
            key = "bbox" if task == "bbox" else "segmentation"
            raise ValueError(f"{self.path}: the detections have no {key!r}")
        return shapes


@collector_off()
def read_ground_truth(path: str | Path) -> GroundTruth:
    """Read a ground-truth file in COCO's format ("images", "categories", "annotations").

    `iscrowd` may be missing (0); "ignore" has no effect, as in pycocotools. If `area` is
    missing it is the mask's, or without a mask the box's. Ids may be text; annotations with
    such ids, or with ids below 1, are numbered from 1.

    Raises:
        OSError: the file cannot be read.
        DataError: it is not such a file; the message names the entry.
    """
    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: a COCO ground-truth file is a JSON object, not a list")
    images = Entries(path, "images", data, GROUND_TRUTH)
    categories = Entries(path, "categories", data, GROUND_TRUTH)
    annotations = Entries(path, "annotations", data, GROUND_TRUTH)
    image_ids, image_order = _rising(images)
    category_ids, category_order = _rising(categories)
    image = annotations.images(image_ids, "this file")
    category = annotations.categories(category_ids)
    ids = annotations.id_array()
    if ids.dtype == object or (ids < 1).any():
        # For pycocotools 0 is "no match": it counts an object of that id as missed.
        ids = np.arange(1, len(ids) + 1)
    boxes, sizes = annotations.boxes(), _sizes(images)[image_order]
    computed_areas = _fill_in_areas(annotations, sizes[image])
    order = np.lexsort((image, category))
    categories.check(category_fault)
    names = _told_apart(categories)
    return GroundTruth(
        path=path,
        image_ids=image_ids,
        image_sizes=sizes,
        file_names=tuple(images.entries[i].get("file_name") for i in image_order.tolist()),
        category_ids=category_ids,
        category_names=tuple(names[i] for i in category_order),
        object_ids=ids[order],
        object_image=image[order],
        object_category=category[order],
        boxes=boxes[order],
        areas=annotations.numbers("area", area_fault)[order],
        computed_areas=computed_areas,
        crowd=np.array([bool(e.get("iscrowd")) for e in annotations.entries], np.uint8)[order],
        segmentations=_segmentations(annotations.entries, order),
    )


@collector_off()
def read_detections(path: str | Path, ground_truth: GroundTruth) -> Detections:
    """Read a COCO result file.

    It is a list of {"image_id", "category_id", "score"} with "bbox", with "segmentation"
    (run-length encoding), or with both. All entries have what the first one has. An empty list is
    a detector that finds nothing.

    Raises:
        OSError: the file cannot be read.
        DataError: it is not such a file, or does not belong to that ground truth; the message
            names the entry, counted from 0.
    """
    path = Path(path)
    if (found := _boxes_alone(path, ground_truth)) is not None:
        return found
    data = read_json(path)
    if not isinstance(data, list):
        raise DataError(
            f"{path}: a COCO result file is a list of detections, this is"
            f" {'an object' if isinstance(data, dict) else type(data).__name__}"
            + (" (a ground-truth file?)" if isinstance(data, dict) and "images" in data else "")
        )
    entries = Entries(path, "detections", {"detections": data}, RESULTS, may_be_empty=True)
    image = entries.images(ground_truth.image_ids, f"the ground truth {ground_truth.path}")
    has = [key for key in ("bbox", "segmentation") if not data or data[0].get(key)]
    if not has:
        entries.fail(0, "neither 'bbox' nor 'segmentation' is there")
    return Detections(
        path=path,
        image=image,
        category=entries.categories(ground_truth.category_ids),
        score=entries.numbers("score", score_fault) + 0.0,  # -0.0 is 0.0
        boxes=entries.boxes() if "bbox" in has else None,
        masks=_masks(entries, ground_truth.image_sizes[image]) if "segmentation" in has else None,
    )


def _boxes_alone(path: Path, truth: GroundTruth) -> Detections | None:
    """Read a file that has boxes alone, as most have; None for another, or one with a fault."""
    parts = columns.of_boxes(path.read_bytes())
    if parts is None or not parts[0]:
        return None
    images, categories, score, boxes = parts
    image = columns.places(images, places_of(truth.image_ids), RESULTS)
    category = columns.places(categories, places_of(truth.category_ids), RESULTS)
    if min(image.min(), category.min()) < 0 or not columns.are_boxes(boxes).all():
        return None
    return Detections(path, image, category, score + 0.0, boxes, masks=None)


def _rising(entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids in rising order, and that order."""
    ids = entries.id_array()
    order = np.argsort(ids)
    return ids[order], order


def _sizes(images: Entries) -> np.ndarray:
    """(N, 2) int64: height and width in pixels, 0 where the file has none."""
    images.check(image_fault)
    sides = [[image.get(side) or 0 for side in ("height", "width")] for image in images.entries]
    return np.array(sides, dtype=np.int64)


def _fill_in_areas(annotations: Entries, sizes: np.ndarray) -> int:
    """Give annotations without an area their mask's or box's; return how many there were."""
    missing = [i for i, entry in enumerate(annotations.entries) if entry.get("area") is None]
    for index in missing:
        entry = annotations.entries[index]
        try:
            entry["area"] = area_of(entry, *sizes[index].tolist())
        except ValueError as error:
            annotations.fail(index, str(error))
    return len(missing)


def _masks(entries: Entries, sizes: np.ndarray) -> list[dict]:
    """N compressed run-length encodings, each of its image's size where that is known."""
    masks = []
    columns = zip(entries.column("segmentation"), sizes.tolist(), strict=True)
    for index, (segmentation, (height, width)) in enumerate(columns):
        if fault := segmentation_fault(segmentation, height, width, RESULTS):
            entries.fail(index, fault)
        masks.append(compressed(segmentation, height, width))
    return masks


def _told_apart(categories: Entries) -> list[str]:
    """Return the names, with their ids where two are alike: figures of classes go by name."""
    # JSON can hold half a letter ("\ud800"), which no file and no other library takes.
    texts = [str(name).encode(errors="backslashreplace") for name in categories.column("name")]
    names = [text.decode() for text in texts]
    numbered = [
        f"{name} ({number})" for name, number in zip(names, categories.column("id"), strict=True)
    ]
    times = Counter(names)
    mixed = [long if times[name] > 1 else name for name, long in zip(names, numbered, strict=True)]
    return mixed if len(set(mixed)) == len(mixed) else numbered


def _segmentations(annotations: Sequence[dict], order: np.ndarray) -> tuple | None:
    values: Iterator = (annotations[i].get("segmentation") or None for i in order.tolist())
    found = tuple(values)
    return found if any(value is not None for value in found) else None
