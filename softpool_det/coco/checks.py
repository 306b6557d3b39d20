"""The rules of COCO's files, each of them once; a policy says what a kind of file may hold."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from softpool_det.coco.protocol import MAX_DETECTIONS

# What a value is that an entry lacks.
MISSING: Any = object()
# pycocotools counts pixels in 32 bits.
MAX_PIXELS = 2**32 - 1
# It draws polygons in 32-bit integers, 5 steps a pixel, and keeps each step; in a training they are
# up to 280 times larger.
MAX_COORDINATE, MAX_PERIMETER = 2**20, 2**22
CORNERS_HINT = "; read as x1, y1, x2, y2 it fits, which is likely what it is"
_SHOWN = 60
_RLE = 'a run-length encoding, {"size": [height, width], "counts": ...}'


@dataclass(frozen=True)
class Policy:
    """What a kind of file may hold. The defaults are those of a ground truth.

    Attributes:
        id_types: types that ids may have.
        whole_ids: numbers that are ids must be whole and fit into 64 bits.
        complete: images need a `file_name` and categories a name in text; sizes, areas and crowds
            must make sense, not only be readable.
        empty_boxes: the width and height of a box may be 0.
        tolerance: pixels that a box may extend beyond its image; None for any number.
        unit_scores: scores must be from 0 to 1.
        polygons: segmentations may be polygons.
        list_counts: run lengths may be a list of numbers.
        max_counts: characters that compressed run lengths may have; None for any number.
        max_detections: entries that an image may have; None for any number.
    """

    id_types: frozenset[type] = frozenset({int, float, str})
    whole_ids: bool = True
    complete: bool = False
    empty_boxes: bool = True
    tolerance: float | None = None
    unit_scores: bool = False
    polygons: bool = True
    list_counts: bool = True
    max_counts: int | None = None
    max_detections: int | None = None


GROUND_TRUTH = Policy()
# Of a training, and of what a training evaluates with: Detectron2 reads them, too.
TRAINING = Policy(frozenset({int, float, str, bool}), whole_ids=False, complete=True)
RESULTS = Policy(polygons=False)
TEST_DEV = Policy(
    id_types=frozenset({int}),
    empty_boxes=False,
    # A box that counts its last pixel in is one too wide; more than that is another matter.
    tolerance=1.0,
    unit_scores=True,
    polygons=False,
    list_counts=False,
    # Masks of COCO's images take some hundred; a checkerboard of 640x640 takes 410,000.
    max_counts=65536,
    # The server counted an image's detections, not those of an image and a category.
    max_detections=MAX_DETECTIONS,
)


class Fault(NamedTuple):
    """A value that breaks a rule; as text "bbox is [1, 2, 3], must be ...".

    Attributes:
        field: "bbox", "segmentation.size", ...
        value: as read from JSON, or MISSING.
        expected: what would be right.
    """

    field: str
    value: Any
    expected: str

    def __str__(self) -> str:
        return f"{self.field} is {shorten(self.value)}, must be {self.expected}"


def shorten(value: object) -> str:
    """Return the value as text of at most 60 characters."""
    text = "missing" if value is MISSING else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def all_finite(values: object) -> bool:
    """Return whether it is a list of numbers, none of them NaN or infinite."""
    try:
        return isinstance(values, list) and all(
            type(value) in (int, float) and math.isfinite(value) for value in values
        )
    except OverflowError:  # a whole number that no float holds
        return False


def is_whole(value: object) -> bool:
    """Return whether it is a whole number of 64 bits; a float may be one, as in pycocotools."""
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return whole and -(2**63) <= value < 2**63  # type: ignore[operator]


def id_fault(value: Any, first: Any, policy: Policy) -> Fault | None:
    """Check an entry's own id; `first` is that of the list's first entry, whose kind all have."""
    is_text = isinstance(first, str)
    # NaN is not even the same as itself.
    right = type(value) in policy.id_types and isinstance(value, str) == is_text and value == value
    if right and (is_text or not policy.whole_ids or is_whole(value)):
        return None
    number = "a whole number of 64 bits" if policy.whole_ids else "a number"
    return Fault("id", value, "a text, as the first id is" if is_text else number)


def is_known(value: Any, known: Collection, policy: Policy) -> bool:
    """Return whether an entry may refer to this id (a list, say, is not even hashable)."""
    return type(value) in policy.id_types and value in known


def image_id_fault(value: Any, known: Collection, policy: Policy, where: str) -> Fault | None:
    """Check an `image_id` against the images of the file that `where` names."""
    if is_known(value, known, policy):
        return None
    return Fault("image_id", value, f"the id of an image in {where}{_other_kind(value, known)}")


def category_id_fault(value: Any, known: Collection, policy: Policy) -> Fault | None:
    """Check a `category_id`."""
    if is_known(value, known, policy):
        return None
    low, high = min(known), max(known)
    listed = ", ".join(f"{each!r:.40}" for each in sorted(known)[:10])
    ids = listed if len(known) <= 10 else f"from {low!r:.40} to {high!r:.40}"
    several = f"one of the {len(known)} category ids {ids}"
    expected = several if len(known) > 1 else f"{ids}, the only category id"
    if type(value) is int and not isinstance(high, str) and 0 <= value < high:
        expected += " (an index from 0 has to be mapped back to COCO's id)"
    return Fault("category_id", value, expected + _other_kind(value, known))


def _other_kind(value: Any, known: Collection) -> str:
    is_text = isinstance(next(iter(known), None), str)
    if isinstance(value, str) == is_text:
        return ""
    return f"; ids there are {'text' if is_text else 'numbers'}"


def image_fault(image: dict[str, Any], policy: Policy) -> Fault | None:
    """Check the name and size of an image, either of which may be null."""
    if policy.complete and not isinstance(image.get("file_name"), str):
        return Fault("file_name", image.get("file_name", MISSING), "a text")
    for side in ("height", "width"):
        value = image.get(side)
        if policy.complete:
            right = value is None or (type(value) is int and value > 0)
        else:
            right = not value or is_whole(value)
        if not right:
            return Fault(side, value, "a whole number of pixels, 1 or more, or null")
    return None


def category_fault(category: dict[str, Any], policy: Policy) -> Fault | None:
    """Check the name of a category."""
    name = category.get("name", MISSING)
    if not policy.complete:
        return None if name is not MISSING else Fault("name", name, "a text")
    try:
        right = isinstance(name, str) and name.encode() is not None
    except UnicodeEncodeError:  # half a letter ("\ud800"), which no log can hold
        right = False
    return None if right else Fault("name", name, "a text")


def box_fault(box: Any, policy: Policy, size: tuple[int, int] | None = None) -> Fault | None:
    """Check a box.

    Args:
        box: as read from JSON; right is [x, y, width, height] in pixels.
        policy: of the file.
        size: (height, width) of the image in pixels; None where it is not known.
    """
    if not all_finite(box) or len(box) != 4:
        return Fault("bbox", box, "[x, y, width, height], four finite numbers in pixels")
    x, y, width, height = box
    if min(width, height) < 0 or (min(width, height) == 0 and not policy.empty_boxes):
        limit = "of 0 or more" if policy.empty_boxes else "above 0"
        return Fault("bbox", box, f"[x, y, width, height] with a width and a height {limit}")
    if policy.tolerance is None or size is None:
        return None
    right, bottom = size[1] + policy.tolerance, size[0] + policy.tolerance
    inside = x >= -policy.tolerance and y >= -policy.tolerance
    if inside and x + width <= right and y + height <= bottom:
        return None
    corners = inside and x < width <= right and y < height <= bottom
    expected = f"[x, y, width, height] inside the image, {size[1]} wide and {size[0]} high"
    return Fault("bbox", box, expected + CORNERS_HINT if corners else expected)


def score_fault(score: Any, policy: Policy) -> Fault | None:
    """Check a score."""
    if all_finite([score]) and (not policy.unit_scores or 0 <= score <= 1):
        return None
    expected = "a number from 0 to 1" if policy.unit_scores else "a finite number"
    return Fault("score", score, expected)


def area_fault(area: Any, policy: Policy) -> Fault | None:
    """Check an area, which may be null: it is computed then."""
    if area is None or (all_finite([area]) and (area >= 0 or not policy.complete)):
        return None
    return Fault("area", area, "a finite number of pixels, 0 or more")


def crowd_fault(crowd: Any) -> Fault | None:
    """Check an `iscrowd`."""
    return None if crowd in (0, 1) else Fault("iscrowd", crowd, "0 or 1")


def segmentation_fault(
    segmentation: Any, height: int, width: int, policy: Policy = GROUND_TRUTH
) -> Fault | None:
    """Check a mask; pycocotools reads past the end of broken run lengths.

    Args:
        segmentation: as read from JSON.
        height, width: of the image in pixels; 0 where they are not known.
        policy: of the file.
    """
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, height, width, policy)
    if not policy.polygons:
        hint = "; polygons are not taken (pycocotools.mask.encode makes an RLE)"
        hint = hint if isinstance(segmentation, list) else ""
        return Fault("segmentation", segmentation, _RLE + hint)
    if segmentation is None or segmentation is MISSING:
        return Fault("segmentation", MISSING, f"polygons or {_RLE}")
    if not height:
        return Fault("segmentation", segmentation, f"{_RLE}: the image's size is not known")
    return polygons_fault(segmentation)


def polygons_fault(segmentation: Any) -> Fault | None:
    """Check that it is a list of polygons that pycocotools can draw.

    Points and lines pass, as COCO has them: Detectron2 leaves them out.
    """
    polygons: list[Any] = segmentation if isinstance(segmentation, list) else [None]
    if not all(all_finite(each) and len(each) % 2 == 0 for each in polygons):
        return Fault("segmentation", segmentation, "polygons of finite numbers, [[x, y, ...], ...]")
    for polygon in polygons:
        steps = [abs(polygon[i] - polygon[i - 2]) for i in range(len(polygon))]
        largest = max(map(abs, polygon), default=0)
        if largest > MAX_COORDINATE or sum(steps) > MAX_PERIMETER:
            expected = f"a polygon with coordinates of at most {MAX_COORDINATE} and a circumference"
            return Fault("segmentation", polygon, f"{expected} of at most {MAX_PERIMETER}")
    return None


def _rle_fault(rle: dict[str, Any], height: int, width: int, policy: Policy) -> Fault | None:
    if "size" not in rle or "counts" not in rle:
        return Fault("segmentation", rle, _RLE)
    size = rle["size"]
    if not isinstance(size, list) or [type(s) for s in size] != [int, int] or min(size) < 1:
        return Fault("segmentation.size", size, "[height, width] in whole pixels")
    if height and size != [height, width]:
        hint = "; this is width and height" if size == [width, height] else ""
        expected = f"[{height}, {width}], the image's height and width{hint}"
        return Fault("segmentation.size", size, expected)
    if size[0] * size[1] > MAX_PIXELS:
        return Fault("segmentation.size", size, f"at most {MAX_PIXELS} pixels")
    right = _right_counts(rle["counts"], size[0], size[1], policy)
    return None if right is None else Fault("segmentation.counts", rle["counts"], right)


def _right_counts(counts: Any, height: int, width: int, policy: Policy) -> str | None:
    """Return what the run lengths of a mask of that size should be, None where they are right."""
    if isinstance(counts, list) and policy.list_counts:
        whole = set(map(type, counts)) <= {int} and min(counts, default=0) >= 0
        if whole and sum(counts) == height * width:
            return None
        return f"whole numbers from 0 that add up to height x width, {height}x{width}"
    if not isinstance(counts, str):
        return "a string of compressed run lengths, as pycocotools.mask.encode makes it"
    if policy.max_counts is not None and len(counts) > policy.max_counts:
        return f"at most {policy.max_counts} characters, these are {len(counts)}"
    # Most data have polygons alone, and numba takes a tenth of a program's start.
    from softpool_det.coco.rle import counts_problem

    # In UTF-8 letters outside ASCII are bytes above 127, which no run length has.
    problem = counts_problem(counts.encode("utf-8", "surrogatepass"), height * width)
    return problem and f"compressed run lengths of {height}x{width} pixels: this one {problem}"
