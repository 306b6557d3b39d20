"""Checks of single detections against the images and categories they speak of."""

from __future__ import annotations

import math
from array import array

from softpool_det.rle import counts_problem
from softpool_det.testdev.image_info import ImageInfo
from softpool_det.testdev.violations import Tally, shorten

MAX_DETECTIONS = 100
# Pixels. A box that counts its last pixel in is one too wide; more than that is another matter.
TOLERANCE = 1.0
# Characters. Masks of COCO's images take some hundred; a checkerboard of 640x640 takes 410,000.
MAX_COUNTS = 65536

_MISSING = object()
_CORNERS = "; read as x1, y1, x2, y2 it fits, which is likely what it is"
Size = tuple[int, int]
# Field, its value, and what would be right: None where it is.
Problem = tuple[str, object, str | None]


class EntryChecks:
    """Checks entries one after the other; remembers a few numbers of each image and no entry.

    Args:
        info: images and categories.
        tally: takes the violations.
    """

    def __init__(self, info: ImageInfo, tally: Tally) -> None:
        self.info = info
        self.tally = tally
        self.boxes = 0
        self.masks = 0
        # Boxes outside their image that would fit as two corners.
        self.corner_boxes = 0
        self.detections = array("L", bytes(array("L").itemsize * len(info.sizes)))
        self._place = {image_id: place for place, image_id in enumerate(info.sizes)}
        self._kinds: set[str] = set()

    def check(self, index: int, entry: object) -> None:
        """Check one entry; `index` is its place in the file, from 0."""
        if not isinstance(entry, dict):
            right = "an object with image_id, category_id, score and bbox or segmentation"
            self.tally.add("entry", shorten(entry), right, index)
            return
        image_id = entry.get("image_id", _MISSING)
        size = self.info.sizes.get(image_id) if type(image_id) is int else None
        problems: list[Problem] = [
            ("image_id", image_id, None if size else "the id of an image in the image_info"),
            ("category_id", *self._category(entry)),
            ("score", *_score(entry)),
            *self._shapes(entry, size),
        ]
        if size:
            problems.append(("image_id", image_id, self._count(image_id)))
        for field, value, expected in problems:
            if expected:
                shown = "missing" if value is _MISSING else shorten(value)
                named = None if image_id is _MISSING else image_id
                self.tally.add(field, shown, expected, index, named)

    def _count(self, image_id: int) -> str | None:
        place = self._place[image_id]
        self.detections[place] += 1
        number = self.detections[place]
        if number <= MAX_DETECTIONS:
            return None
        return f"at most {MAX_DETECTIONS} detections an image, this is its number {number}"

    def _category(self, entry: dict) -> tuple[object, str | None]:
        value = entry.get("category_id", _MISSING)
        if type(value) is int and value in self.info.category_ids:
            return value, None
        low, high = min(self.info.category_ids), max(self.info.category_ids)
        expected = f"one of the {len(self.info.category_ids)} category ids from {low} to {high}"
        if type(value) is int and 0 <= value < high:
            expected += " (an index from 0 has to be mapped back to COCO's id)"
        return value, expected

    def _shapes(self, entry: dict, size: Size | None) -> list[Problem]:
        kinds = {kind for kind in ("bbox", "segmentation") if kind in entry}
        if not self._kinds:
            # Evaluation decides by the first entry whether a file has boxes or masks.
            self._kinds = kinds or {"bbox"}
        problems: list[Problem] = [
            (kind, _MISSING, "there, as in the entries before") for kind in self._kinds - kinds
        ]
        if "bbox" in kinds:
            self.boxes += 1
            expected = box_problem(entry["bbox"], size)
            self.corner_boxes += bool(expected and expected.endswith(_CORNERS))
            problems.append(("bbox", entry["bbox"], expected))
        if "segmentation" in kinds:
            self.masks += 1
            problems.append(mask_problem(entry["segmentation"], size))
        return problems


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _score(entry: dict) -> tuple[object, str | None]:
    value = entry.get("score", _MISSING)
    right = _number(value) and 0 <= value <= 1
    return value, None if right else "a number from 0 to 1"


def box_problem(box: object, size: Size | None) -> str | None:
    """What a bbox should be instead, or None.

    Args:
        box: as read from JSON; right is [x, y, width, height] in pixels, with width and height
            above 0, and inside the image up to :data:`TOLERANCE`.
        size: (height, width) of the image; None where it is not known.
    """
    if not (isinstance(box, list) and len(box) == 4 and all(map(_number, box))):
        return "four finite numbers: x, y, width, height in pixels"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "a width and a height above 0"
    if size is None:
        return None
    right, bottom = size[1] + TOLERANCE, size[0] + TOLERANCE
    inside = x >= -TOLERANCE and y >= -TOLERANCE
    if inside and x + width <= right and y + height <= bottom:
        return None
    expected = f"x, y, width, height inside the image, {size[1]} wide and {size[0]} high"
    corners = inside and x < width <= right and y < height <= bottom
    return expected + _CORNERS if corners else expected


def mask_problem(mask: object, size: Size | None) -> Problem:
    """What a segmentation should be instead, if it is not right.

    Args:
        mask: as read from JSON; right is {"size": [height, width], "counts": compressed RLE}.
        size: (height, width) of the image; None where it is not known.
    """
    if not (isinstance(mask, dict) and "size" in mask and "counts" in mask):
        expected = 'an RLE, {"size": [height, width], "counts": "..."}'
        if isinstance(mask, list):
            expected += "; polygons are not taken (pycocotools.mask.encode makes an RLE)"
        return "segmentation", mask, expected
    shape, counts = mask["size"], mask["counts"]
    if not (isinstance(shape, list) and [type(side) for side in shape] == [int, int]):
        return "segmentation.size", shape, "two integers, height and width"
    if size is not None and shape != list(size):
        expected = f"[{size[0]}, {size[1]}], the image's height and width"
        if shape == [size[1], size[0]]:
            expected += "; this is width and height"
        return "segmentation.size", shape, expected
    if not (isinstance(counts, str) and counts.isascii()):
        expected = "a string of compressed run lengths, as pycocotools.mask.encode makes it"
        return "segmentation.counts", counts, expected
    if len(counts) > MAX_COUNTS:
        expected = f"at most {MAX_COUNTS} characters, these are {len(counts)}"
        return "segmentation.counts", counts, expected
    problem = counts_problem(counts.encode("ascii"), shape[0] * shape[1])
    expected = f"compressed run lengths of {shape[0]}x{shape[1]} pixels: this one {problem}"
    return "segmentation.counts", counts, expected if problem else None
