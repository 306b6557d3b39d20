"""Annotation files in COCO's format, looked through before they are trained on or evaluated with.

Detectron2 and pycocotools take most of what stands in them: a NaN box becomes a NaN loss hours
later, a mask of another size a crash or a wrong AP.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from pycocotools import mask as mask_utils

from softpool_det.files import write_atomically
from softpool_det.masks import all_finite, check_polygons, compressed

from .completion import complete_sizes, without_size
from .failures import DataError, Skipped

# With faulty annotations left out, a data set is another one and has another name.
_SUFFIX = "_without_faults"
# What an id may be.
_ID = (int, str, float)
_TWICE = "its id was there before"


def check_evaluation_annotations(name: str, masks: bool = False) -> None:
    """Look through the ground truth of a data set in COCO's format; others are taken as they are.

    Images without a size get their file's, in what Detectron2's catalog gives from then on.

    Args:
        name: registered with Detectron2.
        masks: masks are evaluated, too.

    Raises:
        DataError: names the file and the first entry that cannot be right. Nothing is left out of a
            ground truth: AP would be another's.
    """
    path = _annotation_file(name)
    if path is None:
        return
    data = _read(path, needed=("images", "categories"))
    unreadable = _complete_sizes(name, path, data)
    for entry, reason in unreadable.items():
        raise DataError(f"{path}: {entry}: {reason}")
    for _, (entry, reason) in _numbered_faults(data, masks):
        raise DataError(f"{path}: {entry}: {reason}")


def check_training_annotations(name: str, skip: bool, skipped: Skipped, folder: Path) -> str:
    """The same for a training set, whose faulty entries may be left out.

    Args:
        name: registered with Detectron2.
        skip: leave out faulty annotations.
        skipped: takes what was left out: annotations, and images that have no size and cannot be
            read.
        folder: for a copy of the file without them.

    Returns:
        The data set to train on: `name`, or one without the faulty annotations.

    Raises:
        DataError: names the file and the first entry that cannot be right.
    """
    path = _annotation_file(name)
    if path is None:
        return name
    data = _read(path)
    unreadable = _complete_sizes(name, path, data)
    faults = dict(_numbered_faults(data))
    for entry, reason in [*unreadable.items(), *faults.values()]:
        if not skip:
            raise DataError(
                f"{path}: {entry}: {reason}; INPUT.SKIP_CORRUPT True leaves such entries out"
            )
        skipped.add(f"{path}: {entry}", reason)
    if not faults and not unreadable:
        return name
    bad_images = {data["images"][index]["id"] for index in without_size(data["images"])}
    images = [image for image in data["images"] if image["id"] not in bad_images]
    annotations = [
        entry
        for index, entry in enumerate(data["annotations"])
        if index not in faults and entry["image_id"] not in bad_images
    ]
    return _register_copy(name, {**data, "images": images, "annotations": annotations}, folder)


def _complete_sizes(name: str, path: Path, data: dict[str, Any]) -> dict[str, str]:
    """Fill in sizes of images, in `data` and in the catalog; return what cannot be, and why."""
    images = data["images"]
    if not without_size(images):
        return {}
    image_root = MetadataCatalog.get(name).image_root
    failures = complete_sizes(path, images, Path(image_root))
    if not failures:
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, partial(_load, name, path.name, data, image_root))
    return {
        f"entry {index} of images (id {images[index]['id']!r:.40})": f"it has no size, and {reason}"
        for index, reason in failures.items()
    }


def _load(name: str, file_name: str, data: dict[str, Any], image_root: str) -> list[dict[str, Any]]:
    """Give Detectron2 `data` in place of the file of that name; it reads nothing but files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file_name)
        path.write_text(json.dumps(data))
        return load_coco_json(str(path), image_root, name)


def _register_copy(name: str, data: dict[str, Any], folder: Path) -> str:
    copy = name + _SUFFIX
    path = folder / f"{copy}.json"
    write_atomically(path, json.dumps(data))
    metadata = MetadataCatalog.get(name).as_dict()
    if copy in DatasetCatalog:  # of an earlier run in this process
        DatasetCatalog.remove(copy)
        MetadataCatalog.remove(copy)
    image_root = metadata.pop("image_root")
    for key in ("name", "json_file", "evaluator_type"):
        metadata.pop(key, None)
    register_coco_instances(copy, metadata, str(path), image_root)
    return copy


def _annotation_file(name: str) -> Path | None:
    metadata = MetadataCatalog.get(name)
    if getattr(metadata, "evaluator_type", None) != "coco" or not hasattr(metadata, "json_file"):
        return None
    return Path(metadata.json_file)


def _read(
    path: Path, needed: Sequence[str] = ("images", "categories", "annotations")
) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: no JSON: {error.msg} at {where}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list in a list ...
        raise DataError(f"{path}: no JSON that can be read: {error}") from None
    lists = ("images", "categories", "annotations")
    for key in lists:
        # COCO's test sets have no annotations.
        absent: list | None = None if key in needed else []
        if not isinstance(data, dict) or not isinstance(data.setdefault(key, absent), list):
            raise DataError(f"{path}: the list {key!r} is missing; COCO's format has it")
    for key in lists:
        _check_ids(path, key, data[key])
    for index, image in enumerate(data["images"]):
        size = image.get("height"), image.get("width")
        is_size = all(side is None or (type(side) is int and side > 0) for side in size)
        if not isinstance(image.get("file_name"), str) or not is_size:
            raise DataError(
                f"{path}: entry {index} of images: file_name, height and width are "
                f"{image.get('file_name')!r:.60}, {size[0]!r:.20} and {size[1]!r:.20}, not a name "
                "and two whole numbers of 1 or more, or null"
            )
    for index, category in enumerate(data["categories"]):
        if not isinstance(category.get("name"), str):
            name = category.get("name")
            raise DataError(f"{path}: entry {index} of categories: its name is {name!r:.40}")
    if not data["images"] or not data["categories"]:
        raise DataError(f"{path}: there are no images or no categories in it")
    return data


def _check_ids(path: Path, key: str, entries: list[Any]) -> None:
    seen: set[Any] = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), _ID):
            raise DataError(f"{path}: entry {index} of {key}: not an object with an 'id'")
        # They are sorted; NaN is not even the same as itself.
        if isinstance(entry["id"], str) != isinstance(entries[0]["id"], str):
            raise DataError(f"{path}: entry {index} of {key}: ids are texts and numbers")
        if entry["id"] != entry["id"]:
            raise DataError(f"{path}: entry {index} of {key}: its id is NaN")
        # Of two images or categories the last would win, and the other one's objects be its own:
        # nothing that could be left out. Of annotations see below.
        if entry["id"] in seen and key != "annotations":
            raise DataError(f"{path}: entry {index} of {key} (id {entry['id']!r:.40}): {_TWICE}")
        seen.add(entry["id"])


def _numbered_faults(
    data: dict[str, Any], masks: bool = False
) -> Iterator[tuple[int, tuple[str, str]]]:
    """(place in the list, (how the entry is called, what is wrong with it))."""
    categories = {category["id"] for category in data["categories"]}
    images = {image["id"]: image for image in data["images"]}
    seen = set()
    for index, annotation in enumerate(data["annotations"]):
        reason = _fault(annotation, categories, images) or _number_fault(annotation)
        if masks and reason is None:
            reason = _mask_fault(annotation, images)
        if annotation["id"] in seen:
            reason = _TWICE
        seen.add(annotation["id"])
        if reason is not None:
            entry = f"entry {index} of annotations (id {annotation['id']!r:.40}"
            yield index, (f"{entry}, image_id {annotation.get('image_id')!r:.40})", reason)


def _fault(
    annotation: dict[str, Any], categories: set[Any], images: dict[Any, dict[str, Any]]
) -> str | None:
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    if not isinstance(image_id, _ID) or image_id not in images:
        return "image_id is not among the images"
    if not isinstance(category_id, _ID) or category_id not in categories:
        known = ", ".join(map(str, list(categories)[:10]))
        return f"category_id {category_id!r:.40} is not among the categories ({known}, ...)"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all_finite(box):
        return f"bbox is {box!r:.60}, not four finite numbers [x, y, width, height]"
    if min(box[2:]) < 0:
        return f"bbox is {box!r:.60}: width and height must not be negative"
    if annotation.get("ignore", 0) != 0:
        return f"ignore is {annotation['ignore']!r:.40}; Detectron2 takes 0 alone"
    if annotation.get("keypoints") and not all_finite(annotation["keypoints"]):
        return f"keypoints are {annotation['keypoints']!r:.60}, not finite numbers"
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    try:
        area = _area(segmentation, images[image_id])
    except ValueError as error:
        return str(error)
    # A point or a line as a box and as a mask, as COCO has, is an empty object that Detectron2
    # leaves out by itself.
    if area == 0 and min(box[2:]) > 0:
        return f"the mask has no area, its bbox is {box!r:.60}"
    return None


def _mask_fault(annotation: dict[str, Any], images: dict[Any, dict[str, Any]]) -> str | None:
    """Of a ground truth for masks; a training leaves such objects out."""
    image = images[annotation["image_id"]]
    try:
        compressed(annotation.get("segmentation") or None, *_size(image))
    except ValueError as error:
        return f"{error}; AP of masks needs one"
    return None


def _number_fault(annotation: dict[str, Any]) -> str | None:
    """Of area and iscrowd, both of which an evaluation fills in where they are missing."""
    area = annotation.get("area")
    if area is not None and (not all_finite([area]) or area < 0):
        return f"area is {area!r:.40}, not a finite number of 0 or more"
    crowd = annotation.get("iscrowd", 0)
    return None if crowd in (0, 1) else f"iscrowd is {crowd!r:.40}, not 0 or 1"


def _area(segmentation: Any, image: dict[str, Any]) -> float:
    if isinstance(segmentation, dict):
        return float(mask_utils.area(compressed(segmentation, *_size(image))))
    check_polygons(segmentation)
    return sum(_polygon_area(polygon) for polygon in segmentation)


def _polygon_area(polygon: list[float]) -> float:
    x, y = polygon[0::2], polygon[1::2]
    twice = sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(y)))
    return abs(twice) / 2


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width in pixels, 0 where they are not known."""
    return image.get("height") or 0, image.get("width") or 0
