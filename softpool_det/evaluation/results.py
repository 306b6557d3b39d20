"""COCO ground truth and result files of any framework, read and checked into arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils


@dataclass(frozen=True)
class GroundTruth:
    """Images, categories and objects; I, K and G of them.

    Objects lie category after category, in each image after image, then as in the file.

    Attributes:
        path: the file.
        image_ids: (I,) int64, rising.
        image_sizes: (I, 2) int64, height and width in pixels; 0 where the file has none.
        category_ids: (K,) int64, rising.
        category_names: K names, in the order of `category_ids`.
        object_ids: (G,) int64, never 0.
        object_image: (G,) int32, index into `image_ids`.
        object_category: (G,) int32, index into `category_ids`.
        boxes: (G, 4) float64: x, y, width, height in pixels.
        areas: (G,) float64 as the file gives them: pixels of the mask, where there are masks.
        crowd: (G,) uint8, 1 for a crowd.
        segmentations: G polygons or run-length encodings, None for an object without; None where
            no object has one.
    """

    path: Path
    image_ids: np.ndarray
    image_sizes: np.ndarray
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    object_ids: np.ndarray
    object_image: np.ndarray
    object_category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
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
                masks.append(_compressed(segmentation, height, width))
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
        """What can be evaluated: "bbox", "segm" or both."""
        there = {"bbox": self.boxes, "segm": self.masks}
        return tuple(task for task, values in there.items() if values is not None)


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Read a ground-truth file in COCO's format ("images", "categories", "annotations").

    `iscrowd` may be missing (0); "ignore" has no effect, as in pycocotools.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file; the message names the entry. Annotation id 0 is
            refused: pycocotools takes it for "no match" and counts a found object as missed.
    """
    path = Path(path)
    data = _json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a COCO ground-truth file is a JSON object, not a list")
    images = _Entries(path, "images", data)
    categories = _Entries(path, "categories", data)
    annotations = _Entries(path, "annotations", data)
    image_ids, image_order = _rising(images)
    category_ids, category_order = _rising(categories)
    image = annotations.lookup("image_id", image_ids, "images")
    category = annotations.lookup("category_id", category_ids, "categories")
    ids = annotations.integers("id")
    if (ids == 0).any():
        annotations.fail(int(np.argmin(ids != 0)), "id 0 means 'no match' in COCO; count from 1")
    annotations.unique("id", ids)
    order = np.lexsort((image, category))
    names = [str(name) for name in categories.column("name")]
    sizes = [(entry.get("height") or 0, entry.get("width") or 0) for entry in images.entries]
    return GroundTruth(
        path=path,
        image_ids=image_ids,
        image_sizes=np.array(sizes, dtype=np.int64)[image_order],
        category_ids=category_ids,
        category_names=tuple(names[i] for i in category_order),
        object_ids=ids[order],
        object_image=image[order],
        object_category=category[order],
        boxes=annotations.boxes()[order],
        areas=annotations.numbers("area")[order],
        crowd=annotations.flags("iscrowd")[order],
        segmentations=_segmentations(annotations.entries, order),
    )


def read_detections(path: str | Path, ground_truth: GroundTruth) -> Detections:
    """Read a result file: a list of {"image_id", "category_id", "score"} with "bbox", with
    "segmentation" (run-length encoding), or with both.

    What the first entry has, all must have.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file, or does not belong to that ground truth; the message
            names the entry, counted from 0.
    """
    path = Path(path)
    data = _json(path)
    if not isinstance(data, list):
        raise ValueError(
            f"{path}: a COCO result file is a list of detections, this is"
            f" {'an object' if isinstance(data, dict) else type(data).__name__}"
            + (" (a ground-truth file?)" if isinstance(data, dict) and "images" in data else "")
        )
    entries = _Entries(path, "detections", {"detections": data})
    where = f"the ground truth {ground_truth.path}"
    image = entries.lookup("image_id", ground_truth.image_ids, where)
    has = [key for key in ("bbox", "segmentation") if data[0].get(key)]
    if not has:
        entries.fail(0, "neither 'bbox' nor 'segmentation' is there")
    return Detections(
        path=path,
        image=image,
        category=entries.lookup("category_id", ground_truth.category_ids, where),
        score=entries.numbers("score"),
        boxes=entries.boxes() if "bbox" in has else None,
        masks=entries.masks(ground_truth.image_sizes[image]) if "segmentation" in has else None,
    )


class _Entries:
    """The entries of one list in a file, read column by column."""

    def __init__(self, path: Path, key: str, data: dict):
        self.path, self.key = path, key
        entries = data.get(key)
        if not isinstance(entries, list):
            raise ValueError(f"{path}: the list {key!r} is missing")
        self.entries: list = entries
        if not self.entries:
            raise ValueError(f"{path}: there are no {key}")
        for index, entry in enumerate(self.entries):
            if not isinstance(entry, dict):
                self.fail(index, f"not an object but {entry!r:.60}")

    def fail(self, index: int, problem: str) -> None:
        raise ValueError(f"{self.path}: entry {index} of {self.key}: {problem}")

    def column(self, key: str) -> list:
        try:
            return [entry[key] for entry in self.entries]
        except KeyError:
            index = next(i for i, entry in enumerate(self.entries) if key not in entry)
            self.fail(index, f"{key!r} is missing")
            raise

    def numbers(self, key: str) -> np.ndarray:
        """(N,) float64, all finite."""
        values = self.column(key)
        if set(map(type, values)) - {int, float}:
            index = next(i for i, value in enumerate(values) if type(value) not in (int, float))
            self.fail(index, f"{key} is {values[index]!r:.60}, not a number")
        array = np.array(values, dtype=np.float64)
        finite = np.isfinite(array)
        if not finite.all():
            index = int(np.argmin(finite))
            self.fail(index, f"{key} is {values[index]}, not a finite number")
        return array

    def integers(self, key: str) -> np.ndarray:
        """(N,) int64."""
        values = self.column(key)
        # A float that is whole is an id to pycocotools, too.
        wrong = (
            i
            for i, value in enumerate(values)
            if type(value) is not int and not (type(value) is float and value.is_integer())
        )
        if set(map(type, values)) != {int} and (index := next(wrong, None)) is not None:
            self.fail(index, f"{key} is {values[index]!r:.60}, not a whole number")
        return np.array(values, dtype=np.int64)

    def flags(self, key: str) -> np.ndarray:
        """(N,) uint8, 0 where the key is missing."""
        return np.array([bool(entry.get(key)) for entry in self.entries], dtype=np.uint8)

    def unique(self, key: str, ids: np.ndarray) -> None:
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            again = np.ones(len(ids), dtype=bool)
            again[first] = False
            index = int(np.argmax(again))
            self.fail(index, f"{key} {ids[index]} was there before")

    def lookup(self, key: str, known: np.ndarray, where: str) -> np.ndarray:
        """(N,) int32: places in `known`, which rises."""
        ids = self.integers(key)
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        found = known[places] == ids
        if not found.all():
            index = int(np.argmin(found))
            self.fail(index, f"{key} {ids[index]} is not in {where}")
        return places.astype(np.int32)

    def boxes(self) -> np.ndarray:
        """(N, 4) float64: x, y, width, height."""
        values = self.column("bbox")
        wrong = (i for i, value in enumerate(values) if not _is_box(value))
        if (index := next(wrong, None)) is not None:
            self.fail(index, f"bbox is {values[index]!r:.60}, not [x, y, width, height]")
        boxes = np.array(values, dtype=np.float64)
        good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)
        if not good.all():
            index = int(np.argmin(good))
            problem = "must be finite, width and height not negative"
            self.fail(index, f"bbox {values[index]}: [x, y, width, height] {problem}")
        return boxes

    def masks(self, sizes: np.ndarray) -> list[dict]:
        """N compressed run-length encodings, each of its image's size where that is known."""
        masks = []
        columns = zip(self.column("segmentation"), sizes.tolist(), strict=True)
        for index, (segmentation, (height, width)) in enumerate(columns):
            if not isinstance(segmentation, dict):
                self.fail(index, "segmentation is not a run-length encoding {'size', 'counts'}")
            try:
                masks.append(_compressed(segmentation, height, width))
            except ValueError as error:
                self.fail(index, str(error))
        return masks


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and set(map(type, value)) <= {int, float}


def _json(path: Path):
    try:
        with path.open("rb") as file:
            return json.load(file)
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error


def _rising(entries: _Entries) -> tuple[np.ndarray, np.ndarray]:
    """The ids in rising order, and that order."""
    ids = entries.integers("id")
    entries.unique("id", ids)
    order = np.argsort(ids)
    return ids[order], order


def _segmentations(annotations: Sequence[dict], order: np.ndarray) -> tuple | None:
    values: Iterator = (annotations[i].get("segmentation") or None for i in order.tolist())
    found = tuple(values)
    return found if any(value is not None for value in found) else None


def _compressed(segmentation, height: int, width: int) -> dict:
    """A polygon list or run-length encoding, compressed; as pycocotools' `COCO.annToRLE`."""
    if segmentation is None:
        raise ValueError("no segmentation")
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(counts, str | bytes | list) or not isinstance(size, list):
            raise ValueError("a run-length encoding has 'size' and 'counts'")
        if height and size != [height, width]:
            raise ValueError(f"the mask's size is {size}, the image's [{height}, {width}]")
        if not isinstance(counts, list):
            return {"size": size, "counts": counts}
        height, width = size
    elif not height:
        raise ValueError("polygons need the height and width of their image")
    try:
        encoded = mask_utils.frPyObjects(segmentation, height, width)
        return mask_utils.merge(encoded) if isinstance(encoded, list) else encoded
    except Exception as error:  # Cython raises bare Exception.
        raise ValueError(f"the segmentation cannot be read: {error}") from error
