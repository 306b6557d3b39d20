"""The images that gained and lost most: ground truth and what each arm finds, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from softpool_det.coco.masks import compressed
from softpool_det.coco.protocol import MAX_DETECTIONS
from softpool_det.coco.reading import Detections, GroundTruth
from softpool_det.io.images import explain_size, read_rgb
from softpool_det.report.formatting import is_number, plain, shorten, signed
from softpool_det.report.overlay import (
    LEAST_SCORE,
    Box,
    GalleryRow,
    Panel,
    Shape,
    Threshold,
    frame_of,
    label_place,
    outline,
)
from softpool_det.report.pictures import embed_image
from softpool_det.report.wording import joined, plural

# The IoU at which a detection counts as right here.
RIGHT_IOU = 0.5
FILE_NAME_LENGTH = 40

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class _Object:
    """An object or a detection; `mask` is a compressed run-length encoding, or None."""

    category: int
    box: Box
    mask: dict | None
    score: float | None = None
    crowd: bool = False


def gallery_rows(
    image_gains: Sequence[Entry],
    ground_truth: GroundTruth,
    results: Mapping[str, Detections],
    image_folder: str | Path,
    *,
    thresholds: Mapping[str, float],
    task: str = "bbox",
    count: int = 3,
) -> list[GalleryRow]:
    """For each candidate the images that gained most, then those that lost most; each image once.

    Detections that are right by COCO's greedy matching at IoU 0.5 have a solid outline, others a
    dashed one. It goes by descending score, so lower scores never change what is right above them:
    the page's sliders need no new matching.

    Args:
        image_gains: as in comparison.json.
        ground_truth: COCO's annotations.
        results: by arm, detections of one seed.
        image_folder: where the files are that `ground_truth` names.
        thresholds: by arm; detections with a lower score are hidden at first. Those below
            `LEAST_SCORE`, too, are left out.
        task: "bbox" or "segm" (draws masks, and matches by them).
        count: images that gained, and images that lost, for each candidate.

    Raises:
        FileNotFoundError: an image is not in `image_folder`.
        ValueError: an argument is out of range, an image is not in the ground truth, its name leads
            out of `image_folder`, it cannot be read, or it has another size there.
    """
    if task not in ("bbox", "segm"):
        raise ValueError(f"task must be 'bbox' or 'segm', got {task!r}")
    if set(thresholds) != set(results):
        raise ValueError(f"thresholds must be of {list(results)}, got {list(thresholds)}")
    chosen = _choose(image_gains, count)
    places = {image_id: place for place, image_id in enumerate(ground_truth.image_ids.tolist())}
    if missing := set(chosen) - set(places):
        raise ValueError(f"image_gains has images that ground_truth has not: {sorted(missing)}")
    drawer = _Drawer(ground_truth, results, Path(image_folder), task, thresholds)
    return [drawer.row(gains, places[image_id]) for image_id, gains in chosen.items()]


def _choose(image_gains: Sequence[Entry], count: int) -> dict[Any, list[Entry]]:
    """By image, the gains that it is chosen for."""
    chosen: list[Entry] = []
    for name in dict.fromkeys(gain["candidate"] for gain in image_gains):
        gains = [g for g in image_gains if g["candidate"] == name and is_number(g["gain"])]
        gains.sort(key=lambda gain: gain["gain"], reverse=True)
        chosen += [gain for gain in gains[:count] if gain["gain"] > 0]
        chosen += [gain for gain in gains[::-1][:count] if gain["gain"] < 0]
    by_image: dict[Any, list[Entry]] = {}
    for gain in chosen:
        by_image.setdefault(gain["image_id"], []).append(gain)
    return by_image


class _Drawer:
    """Draws images of one data set."""

    def __init__(
        self,
        ground_truth: GroundTruth,
        results: Mapping[str, Detections],
        folder: Path,
        task: str,
        thresholds: Mapping[str, float],
    ) -> None:
        self._truth, self._results, self._folder = ground_truth, results, folder
        self._task = task
        self._thresholds = {name: Threshold(score) for name, score in thresholds.items()}

    def row(self, gains: Sequence[Entry], image: int) -> GalleryRow:
        """Draw an image, `image` being its place in the ground truth."""
        path = self._file(gains[0]["image_id"], image)
        picture = read_rgb(path)
        frame = frame_of(*picture.size)
        objects = self._objects(image, (picture.height, picture.width))
        scale = frame[0] / picture.width
        panels = [Panel("ground truth", [self._shape(item, frame, scale) for item in objects])]
        for name, detections in self._results.items():
            threshold = self._thresholds[name]
            found = self._found(detections, image, threshold)
            right = self._right(found, objects)
            shapes = [
                self._shape(item, frame, scale, is_right, threshold)
                for item, is_right in zip(found, right, strict=True)
            ]
            panels.append(Panel(name, shapes, threshold))
        title, photograph = self._title(gains, path.name), embed_image("photograph", picture)
        return GalleryRow(title, self._caption(gains, objects), photograph, frame, panels)

    def _file(self, image_id: Any, image: int) -> Path:
        name, (height, width) = self._truth.file_names[image], self._truth.image_sizes[image]
        if not name:
            raise ValueError(
                f"image {image_id} of the ground truth has no 'file_name': pictures need one"
            )
        path = _inside(self._folder, name)
        if not path.is_file():
            raise FileNotFoundError(
                f"image {name!r} of the ground truth is not in {self._folder}: "
                "image_folder must be the folder of the data set's images"
            )
        if width and height and (problem := explain_size(path, (int(width), int(height)))):
            raise ValueError(f"image {name!r} in {self._folder}: {problem}")
        return path

    def _objects(self, image: int, size: tuple[int, int]) -> list[_Object]:
        truth, found = self._truth, []
        for g in np.flatnonzero(truth.object_image == image).tolist():
            mask = None
            if self._task == "segm" and truth.segmentations is not None:
                mask = compressed(truth.segmentations[g], *size)
            category, crowd = int(truth.object_category[g]), bool(truth.crowd[g])
            found.append(_Object(category, _box(truth.boxes[g]), mask, crowd=crowd))
        return found

    def _found(self, detections: Detections, image: int, threshold: Threshold) -> list[_Object]:
        found, least = [], min(threshold.initial, LEAST_SCORE)
        places = np.flatnonzero((detections.image == image) & (detections.score >= least))
        for n in places.tolist():
            mask = detections.masks[n] if self._task == "segm" and detections.masks else None
            box = coco_mask.toBbox(mask) if detections.boxes is None else detections.boxes[n]
            score = float(detections.score[n])
            found.append(_Object(int(detections.category[n]), _box(box), mask, score))
        # Equal scores in an order that is not the file's.
        found.sort(key=lambda shape: (-(shape.score or 0), shape.category, repr(shape)))
        return found[:MAX_DETECTIONS]

    def _title(self, gains: Sequence[Entry], file_name: str) -> str:
        kind = "mask AP" if self._task == "segm" else "box AP"
        each = ", ".join(f"{gain['candidate']} {signed(gain['gain'], 1)}" for gain in gains)
        file = shorten(file_name, FILE_NAME_LENGTH)
        return f"Image {gains[0]['image_id']} ({file}): {each} {kind}"

    def _caption(self, gains: Sequence[Entry], objects: Sequence[_Object]) -> str:
        values = [f"{plain(gains[0]['baseline'])} of the baseline"]
        values += [f"{plain(gain['candidate_ap'])} of {gain['candidate']}" for gain in gains]
        return (
            f"AP of this image alone: {joined(values)}; "
            f"{plural(len(objects), 'object', 'objects')}."
        )

    def _shape(
        self,
        item: _Object,
        frame: tuple[float, float],
        scale: float,
        right: bool = True,
        threshold: Threshold | None = None,
    ) -> Shape:
        mask = None if item.mask is None else coco_mask.decode(item.mask)
        return Shape(
            *outline(item.box, mask, frame, scale),
            label_place(item.box, frame, scale),
            item.category,
            self._truth.category_names[item.category],
            item.score,
            right,
            100 if threshold is None or item.score is None else threshold.last(item.score),
        )

    def _right(self, found: Sequence[_Object], objects: Sequence[_Object]) -> list[bool]:
        """Whether each detection, best score first, matches an object that is not taken yet."""
        if not found or not objects:
            return [False] * len(found)
        crowd = np.array([shape.crowd for shape in objects])
        overlaps = coco_mask.iou(self._compared(found), self._compared(objects), crowd)
        same = np.equal.outer([s.category for s in found], [o.category for o in objects])
        overlaps = np.where(same, overlaps, 0.0)
        right = []
        for row in overlaps:
            # As COCO has it: a crowd is for what no object is left for.
            single = np.where(crowd, 0.0, row)
            best = int((single if single.max() >= RIGHT_IOU else row).argmax())
            right.append(bool(row[best] >= RIGHT_IOU))
            if right[-1] and not crowd[best]:
                overlaps[:, best] = 0.0
        return right

    def _compared(self, shapes: Sequence[_Object]) -> Any:
        if self._task == "segm":
            return [shape.mask for shape in shapes]
        return np.array([shape.box for shape in shapes], dtype=float)


def _inside(folder: Path, name: str) -> Path:
    """Return the file of that name below `folder`.

    A report is passed on: pictures from elsewhere on this machine are not for a stranger's
    annotations to choose.
    """
    # As text: the folder and what is in it may be links.
    place = os.path.normpath(str(name))
    if os.path.isabs(place) or place.split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"image {name!r} of the ground truth is not in {folder}: a file_name must be a path "
            "below the folder of images"
        )
    return folder / name


def _box(values: np.ndarray) -> Box:
    x, y, width, height = values.tolist()
    return x, y, width, height
