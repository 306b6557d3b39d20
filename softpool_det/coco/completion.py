"""Fill in what annotation files in COCO's format may lack, in memory, not in the files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from softpool_det.coco.masks import area_of
from softpool_det.io.images import ImageError, read_header

# pycocotools keeps the ids of matched objects in float64, where 0 stands for "none".
_LARGEST_ID = 2**53

logger = logging.getLogger(__name__)
_said: set[str] = set()


def without_size(images: list[dict[str, Any]]) -> list[int]:
    """Places in the list of images whose `height` or `width` is null or missing."""
    sides = ("height", "width")
    return [i for i, image in enumerate(images) if any(image.get(side) is None for side in sides)]


def complete_sizes(path: Path, images: list[dict[str, Any]], folder: Path) -> dict[int, str]:
    """Give images whose `height` or `width` is null or missing the size that their file has.

    Args:
        path: of the annotation file, for the line that says how many there were.
        images: as in the file; changed in place.
        folder: of the image files.

    Returns:
        By place in the list, why an image's file cannot be read; its size is still missing.
    """
    missing = without_size(images)
    failures = {}
    for index in missing:
        file = folder / images[index]["file_name"]
        try:
            images[index]["width"], images[index]["height"] = read_header(file).size
        except FileNotFoundError:
            failures[index] = f"{file}: file not found"
        except ImageError as error:
            failures[index] = str(error)
    if done := len(missing) - len(failures):
        _say(f"{path}: {done} of {len(images)} images have no size; it is read from the files")
    return failures


def complete_annotations(path: Path, data: dict[str, Any]) -> None:
    """Give annotations what pycocotools needs: `area`, `iscrowd` and ids from 1.

    Args:
        path: of the annotation file, for the lines that say what was missing.
        data: its content, checked; changed in place. Images have sizes.
    """
    annotations = data["annotations"]
    images = {image["id"]: image for image in data["images"]}
    counts = {"area": 0, "iscrowd": 0}
    for annotation in annotations:
        if annotation.get("area") is None:
            image = images[annotation["image_id"]]
            annotation["area"] = area_of(annotation, image["height"], image["width"])
            counts["area"] += 1
        if "iscrowd" not in annotation:
            annotation["iscrowd"] = 0
            counts["iscrowd"] += 1
    if counts["area"]:
        _say(
            f"{path}: {counts['area']} of {len(annotations)} annotations have no area; it is "
            "computed from the mask or, without a mask, from the box"
        )
    if counts["iscrowd"]:
        _say(
            f"{path}: {counts['iscrowd']} of {len(annotations)} annotations have no iscrowd; 0 is "
            "assumed"
        )
    if not all(map(_is_usable, annotations)):
        _say(
            f"{path}: annotation ids are replaced by 1, 2, ...: pycocotools rejects text ids and "
            "takes 0 for no match"
        )
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number


def _is_usable(annotation: dict[str, Any]) -> bool:
    return type(annotation["id"]) is int and 0 < annotation["id"] < _LARGEST_ID


def _say(text: str) -> None:
    """Warn once a process: an evaluation comes many times."""
    if text not in _said:
        _said.add(text)
        logger.warning(text)
