"""The images that gained and lost most: ground truth and what each arm finds, side by side."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from softpool_det.images import explain_size, read_rgb
from softpool_det.report.drawing import DrawnObject, draw_objects
from softpool_det.report.numbers import is_number, plain, shorten, signed
from softpool_det.report.pictures import GalleryRow
from softpool_det.report.words import plural

# COCO's own limit, and the IoU at which a detection counts as right here.
DETECTIONS_AN_IMAGE = 100
RIGHT_IOU = 0.5
LABEL_LENGTH = 24
FILE_NAME_LENGTH = 40

Entry = Mapping[str, Any]


def gallery_rows(
    image_gains: Sequence[Entry],
    ground_truth: Mapping[str, Any],
    results: Mapping[str, Sequence[Entry]],
    image_folder: str | Path,
    *,
    thresholds: Mapping[str, float],
    task: str = "bbox",
    count: int = 3,
) -> list[GalleryRow]:
    """For each candidate the images that gained most, then those that lost most.

    Detections that are right (COCO's greedy matching by score, among those shown, at IoU 0.5)
    have a solid outline, others a dashed one.

    Args:
        image_gains: as in comparison.json.
        ground_truth: the content of a COCO annotation file.
        results: by arm, entries of a COCO result file of one seed.
        image_folder: where the files are that `ground_truth` names.
        thresholds: by arm; detections with a lower score are left out.
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
    wanted = {gain["image_id"] for gain in chosen}
    images = {image["id"]: image for image in ground_truth["images"] if image["id"] in wanted}
    if missing := wanted - set(images):
        raise ValueError(f"image_gains has images that ground_truth has not: {sorted(missing)}")
    categories = {entry["id"]: entry["name"] for entry in ground_truth["categories"]}
    drawer = _Drawer(categories, task, thresholds)
    objects = _by_image(ground_truth["annotations"], wanted)
    found = {name: _by_image(entries, wanted) for name, entries in results.items()}
    return [
        drawer.row(
            gain,
            images[gain["image_id"]],
            Path(image_folder),
            objects[gain["image_id"]],
            {name: entries[gain["image_id"]] for name, entries in found.items()},
        )
        for gain in chosen
    ]


def _choose(image_gains: Sequence[Entry], count: int) -> list[Entry]:
    chosen = []
    for name in dict.fromkeys(gain["candidate"] for gain in image_gains):
        gains = [g for g in image_gains if g["candidate"] == name and is_number(g["gain"])]
        gains.sort(key=lambda gain: gain["gain"], reverse=True)
        chosen += [gain for gain in gains[:count] if gain["gain"] > 0]
        chosen += [gain for gain in gains[::-1][:count] if gain["gain"] < 0]
    return chosen


def _by_image(entries: Sequence[Entry], wanted: set) -> dict[Any, list[Entry]]:
    grouped: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry["image_id"] in wanted:
            grouped[entry["image_id"]].append(entry)
    return grouped


class _Drawer:
    """Draws images of one data set."""

    def __init__(
        self, categories: Mapping[int, str], task: str, thresholds: Mapping[str, float]
    ) -> None:
        self._categories = categories
        self._numbers = {identifier: number for number, identifier in enumerate(categories)}
        self._task = task
        self._thresholds = thresholds

    def row(
        self,
        gain: Entry,
        image: Entry,
        folder: Path,
        objects: Sequence[Entry],
        found: Mapping[str, Sequence[Entry]],
    ) -> GalleryRow:
        if not image.get("file_name"):
            raise ValueError(
                f"image {image['id']} of the ground truth has no 'file_name': pictures need one"
            )
        path = _inside(folder, image["file_name"])
        if not path.is_file():
            raise FileNotFoundError(
                f"image {image['file_name']!r} of the ground truth is not in {folder}: "
                "image_folder must be the folder of the data set's images"
            )
        width, height = image.get("width"), image.get("height")
        if width and height and (problem := explain_size(path, (width, height))):
            raise ValueError(f"image {image['file_name']!r} in {folder}: {problem}")
        picture = read_rgb(path)
        size = (picture.height, picture.width)
        truth = [self._drawn(entry, size, True) for entry in objects]
        pictures = [("ground truth", draw_objects(picture, truth))]
        for name, entries in found.items():
            shown = self._shown(entries, self._thresholds[name])
            right = self._right(shown, objects, size)
            drawn = [
                self._drawn(entry, size, is_right)
                for entry, is_right in zip(shown, right, strict=True)
            ]
            label = (
                f"{name}: {sum(right)} right, {len(right) - sum(right)} wrong "
                f"of score {self._thresholds[name]:.2g} or more"
            )
            pictures.append((label, draw_objects(picture, drawn)))
        return GalleryRow(self._title(gain, path.name), self._caption(gain, objects), pictures)

    def _title(self, gain: Entry, file_name: str) -> str:
        kind = "mask AP" if self._task == "segm" else "box AP"
        image = f"image {gain['image_id']} ({shorten(file_name, FILE_NAME_LENGTH)})"
        return f"{gain['candidate']}: {image}, {signed(gain['gain'], 1)} {kind}"

    def _caption(self, gain: Entry, objects: Sequence[Entry]) -> str:
        return (
            f"AP of this image alone: {plain(gain['baseline'])} and "
            f"{plain(gain['candidate_ap'])}; {plural(len(objects), 'object', 'objects')}."
        )

    def _shown(self, entries: Sequence[Entry], threshold: float) -> list[Entry]:
        kept = [entry for entry in entries if entry["score"] >= threshold]
        # Equal scores in an order that is not the file's.
        key = "segmentation" if self._task == "segm" else "bbox"
        kept.sort(key=lambda entry: (-entry["score"], repr(entry["category_id"]), repr(entry[key])))
        return kept[:DETECTIONS_AN_IMAGE]

    def _drawn(self, entry: Entry, size: tuple[int, int], solid: bool) -> DrawnObject:
        name = shorten(self._categories.get(entry["category_id"], "?"), LABEL_LENGTH)
        label = f"{name} {entry['score']:.2g}" if "score" in entry else name
        mask = None
        if self._task == "segm":
            mask = coco_mask.decode(_rle(entry["segmentation"], size)).astype(bool)
        return DrawnObject(
            _box(entry, size), label, self._numbers.get(entry["category_id"], 0), solid, mask
        )

    def _right(
        self, shown: Sequence[Entry], objects: Sequence[Entry], size: tuple[int, int]
    ) -> list[bool]:
        """Whether each detection, best score first, matches an object that is not taken yet."""
        if not shown or not objects:
            return [False] * len(shown)
        crowd = [int(entry.get("iscrowd", 0)) for entry in objects]
        overlaps = np.array(
            coco_mask.iou(self._shapes(shown, size), self._shapes(objects, size), crowd)
        )
        same = np.array(
            [[e["category_id"] == o["category_id"] for o in objects] for e in shown], dtype=bool
        )
        overlaps = np.where(same, overlaps, 0.0)
        right = []
        for row in overlaps:
            best = int(row.argmax())
            right.append(bool(row[best] >= RIGHT_IOU))
            if right[-1] and not crowd[best]:
                overlaps[:, best] = 0.0
        return right

    def _shapes(self, entries: Sequence[Entry], size: tuple[int, int]):
        if self._task == "segm":
            return [_rle(entry["segmentation"], size) for entry in entries]
        return np.array([_box(entry, size) for entry in entries], dtype=float)


def _inside(folder: Path, name: str) -> Path:
    """The file of that name below `folder`.

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


def _box(entry: Entry, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width, height; of the mask where a result has no box."""
    box = entry["bbox"] if "bbox" in entry else coco_mask.toBbox(_rle(entry["segmentation"], size))
    x, y, width, height = (float(value) for value in box)
    return x, y, width, height


def _rle(segmentation: Any, size: tuple[int, int]) -> Any:
    """Compressed run lengths of polygons, of plain run lengths, or as they are."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation
