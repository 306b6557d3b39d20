"""Values of many entries checked at once, as arrays; rules of `checks` without their words.

What these functions find right is right by the rules. What they do not, they leave to the rules,
entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from softpool_det.coco.checks import MAX_PERIMETER, MISSING, Policy

_NUMBERS = {int, float}
_NOT_A_BOX = [math.nan] * 4
# Far beyond images and far below what rounding would need to hide a pixel of area.
_LARGEST_SIDE = 2**14


class _Box(msgspec.Struct, gc=False, forbid_unknown_fields=True):  # type: ignore[call-arg]
    image_id: int | str
    category_id: int | str
    score: float
    bbox: tuple[float, float, float, float]


def of_boxes(content: bytes) -> tuple[list, list, np.ndarray, np.ndarray] | None:
    """Parse a result file of boxes alone; in two thirds of the time and memory that any JSON takes.

    Returns:
        Image ids, category ids, (N,) scores and (N, 4) boxes, or None where an entry has more
        than these, less, or another type.
    """
    try:
        entries = msgspec.json.decode(content, type=list[_Box])
    except (ValueError, RecursionError):
        return None
    images, categories = (list(map(attrgetter(k), entries)) for k in ("image_id", "category_id"))
    sides = chain.from_iterable(map(attrgetter("bbox"), entries))
    return (
        images,
        categories,
        np.fromiter(map(attrgetter("score"), entries), np.float64, count=len(entries)),
        np.fromiter(sides, np.float64, count=4 * len(entries)).reshape(-1, 4),
    )


def numbers(values: list) -> np.ndarray:
    """(N,) float64: NaN for what is not a number, infinity for what no float holds."""
    if not set(map(type, values)) <= _NUMBERS:
        values = [value if type(value) in _NUMBERS else math.nan for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([_float(value) for value in values], dtype=np.float64)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def boxes(values: list) -> np.ndarray:
    """(N, 4) float64: x, y, width, height; not finite in each row that is not four numbers."""
    if set(map(type, values)) != {list} or set(map(len, values)) != {4}:
        is_box = [isinstance(value, list) and len(value) == 4 for value in values]
        values = [v if right else _NOT_A_BOX for v, right in zip(values, is_box, strict=True)]
    flat = _flat(values, 4 * len(values))
    return (numbers(list(chain.from_iterable(values))) if flat is None else flat).reshape(-1, 4)


def _flat(lists: list[list], count: int) -> np.ndarray | None:
    """(count,) float64: all that is in the lists; None where some of it no float can be."""
    if not set(map(type, chain.from_iterable(lists))) <= _NUMBERS:
        return None
    try:
        return np.fromiter(chain.from_iterable(lists), dtype=np.float64, count=count)
    except OverflowError:
        return None


def are_boxes(array: np.ndarray) -> np.ndarray:
    """(N,) bool, of the result of :func:`boxes`: finite, width and height of 0 or more."""
    return np.isfinite(array).all(axis=1) & (array[:, 2:] >= 0).all(axis=1)


def places(values: list, known: Mapping[Any, int], policy: Policy) -> np.ndarray:
    """(N,) int32: what `known` has for each id, -1 for one that an entry may not refer to."""
    if not set(map(type, values)) <= policy.id_types:
        values = [value if type(value) in policy.id_types else MISSING for value in values]
    return np.fromiter(map(known.get, values, repeat(-1)), dtype=np.int32, count=len(values))


def have_area(segmentations: Sequence[Any]) -> np.ndarray:
    """(N,) bool: lists of polygons of three points or more that can be drawn, 1 pixel in all."""
    found = np.zeros(len(segmentations), dtype=bool)
    counts = [len(each) if isinstance(each, list) else 0 for each in segmentations]
    lists = (each for each in segmentations if isinstance(each, list))
    polygons: list = list(chain.from_iterable(lists))
    if set(map(type, polygons)) != {list}:
        return found
    owner = np.repeat(np.arange(len(segmentations)), counts)
    length = np.fromiter(map(len, polygons), dtype=np.int64, count=len(polygons))
    whole = (length >= 6) & (length % 2 == 0)
    if not whole.all():
        polygons = [each for each, is_whole in zip(polygons, whole, strict=True) if is_whole]
    flat = _flat(polygons, int(length[whole].sum()))
    if not polygons or flat is None:
        return found
    right = whole.copy()
    area = np.zeros(len(right))
    right[whole], area[whole] = _measured(flat.reshape(-1, 2), length[whole] // 2)
    wrong = np.bincount(owner[~right], minlength=len(found))
    return (wrong == 0) & (np.bincount(owner, area, minlength=len(found)) >= 1)


def _measured(points: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each polygon, so many of the (M, 2) points, is drawable; its area in pixels."""
    ends = np.cumsum(counts)
    starts = ends - counts
    before = np.concatenate([points[:1], points[:-1]])
    before[starts] = points[ends - 1]
    (x, y), (last_x, last_y) = points.T, before.T
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.add.reduceat(np.abs(x - last_x) + np.abs(y - last_y), starts)
        cross = last_x * y - x * last_y
        far = np.maximum.reduceat(np.maximum(np.abs(x), np.abs(y)), starts)
        # NaN is not small either.
        drawable = (far <= _LARGEST_SIDE) & (steps <= MAX_PERIMETER / 2)
    return drawable, np.abs(np.add.reduceat(cross, starts)) / 2
