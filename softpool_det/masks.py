"""Segmentations of COCO files, checked and compressed."""

from __future__ import annotations

import math

from pycocotools import mask as mask_utils

# pycocotools counts pixels in 32 bits.
MAX_PIXELS = 2**32 - 1
# It draws polygons in 32-bit integers, 5 steps a pixel, and keeps each step; in a training they are
# up to 280 times larger.
MAX_COORDINATE, MAX_PERIMETER = 2**20, 2**22


def compressed(segmentation, height: int, width: int) -> dict:
    """A polygon list or run-length encoding, compressed; as pycocotools' `COCO.annToRLE`.

    Run lengths are checked before: pycocotools reads past the end of broken ones.

    Args:
        segmentation: as read from JSON.
        height, width: of the image in pixels; 0 where they are not known.

    Raises:
        ValueError: it is neither, or not of that size.
    """
    if segmentation is None:
        raise ValueError("no segmentation")
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(counts, str | list) or not isinstance(size, list):
            raise ValueError("a run-length encoding has 'size' and 'counts'")
        _check_size(size, height, width)
        height, width = size
        if isinstance(counts, str):
            _check_compressed(counts, height, width)
            return {"size": size, "counts": counts}
        _check_list(counts, height, width)
    elif not height:
        raise ValueError("polygons need the height and width of their image")
    else:
        check_polygons(segmentation)
    try:
        encoded = mask_utils.frPyObjects(segmentation, height, width)
        return mask_utils.merge(encoded) if isinstance(encoded, list) else encoded
    except Exception as error:  # Cython raises bare Exception.
        raise ValueError(f"the segmentation cannot be read: {error}") from error


def area_of(annotation, height: int, width: int) -> float:
    """Pixels of an annotation's mask in its image, or of its box where it has no mask.

    Polygons of fewer than three points do not count, as in Detectron2.

    Args:
        annotation: with `bbox`, and `segmentation` where there is a mask.
        height, width: of the image in pixels.

    Raises:
        ValueError: the segmentation cannot be right.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        check_polygons(segmentation)
        segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not segmentation:
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    return float(mask_utils.area(compressed(segmentation, height, width)))


def check_polygons(segmentation) -> None:
    """Raise ValueError for what is no list of polygons, or is none that pycocotools can draw.

    Polygons of fewer than three points pass: Detectron2 leaves them out.
    """
    if not isinstance(segmentation, list) or not all(map(all_finite, segmentation)):
        raise ValueError(f"segmentation is {segmentation!r:.60}, not polygons of finite numbers")
    for polygon in segmentation:
        steps = [abs(polygon[i] - polygon[i - 2]) for i in range(len(polygon))]
        largest = max(map(abs, polygon), default=0)
        if largest > MAX_COORDINATE or sum(steps) > MAX_PERIMETER:
            raise ValueError(
                f"the polygon {polygon!r:.60} leaves every image: coordinates of at most "
                f"{MAX_COORDINATE} and a circumference of at most {MAX_PERIMETER} can be drawn"
            )


def all_finite(values) -> bool:
    """Whether it is a list of numbers, none of them NaN or infinite."""
    try:
        return isinstance(values, list) and all(
            type(value) in (int, float) and math.isfinite(value) for value in values
        )
    except OverflowError:  # a whole number that no float holds
        return False


def _check_size(size: list, height: int, width: int) -> None:
    if [type(side) for side in size] != [int, int] or min(size) < 1:
        raise ValueError(f"the mask's size is {size!r:.60}, not [height, width] in whole pixels")
    if height and size != [height, width]:
        raise ValueError(f"the mask's size is {size}, the image's [{height}, {width}]")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"the mask's size is {size}; at most {MAX_PIXELS} pixels can be read")


def _check_compressed(counts: str, height: int, width: int) -> None:
    # Most data have polygons alone, and numba takes a tenth of a program's start.
    from softpool_det.rle import counts_problem

    # In UTF-8 letters outside ASCII are bytes above 127, which no run length has.
    problem = counts_problem(counts.encode("utf-8", "surrogatepass"), height * width)
    if problem is not None:
        raise ValueError(f"the mask's counts {counts!r:.60} of {height}x{width} pixels {problem}")


def _check_list(counts: list, height: int, width: int) -> None:
    whole = set(map(type, counts)) <= {int} and min(counts, default=0) >= 0
    if not whole or sum(counts) != height * width:
        raise ValueError(
            f"the mask's counts {counts!r:.60} must be whole numbers from 0 that add up to "
            f"height x width, {height}x{width}"
        )
