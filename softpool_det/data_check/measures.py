"""Counts of a data set, sizes of its boxes, and how anchors fit them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

# RetinaNet's in Detectron2: five levels, three sizes each, three ratios of height to width.
ANCHOR_SIZES = tuple(32 * 2**level * 2 ** (third / 3) for level in range(5) for third in range(3))
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
# RetinaNet takes an anchor for an object from the second on, and for background below the first.
IOU_THRESHOLDS = (0.4, 0.5)
# COCO's small and medium, in pixels of the image's file.
SMALL, MEDIUM = 32**2, 96**2
_BLOCK = 2**16


def measure(data: dict[str, Any], min_size: int, max_size: int) -> dict[str, Any]:
    """Measure a file without faults.

    Args:
        data: its content; images may lack a size, their boxes are left out of sizes then.
        min_size, max_size: pixels of the shorter and longest longer side that images are resized
            to, as `INPUT.MIN_SIZE_TEST` and `MAX_SIZE_TEST` say.

    Returns:
        JSON's types: numbers of images, of those without an object, of annotations, of objects by
        class, quantiles of objects an image, and "boxes" (see `_box_sizes`).
    """
    annotations = data["annotations"]
    by_image = Counter(entry["image_id"] for entry in annotations)
    counts = Counter(entry["category_id"] for entry in annotations)
    objects = [by_image.get(image["id"], 0) for image in data["images"]]
    categories = [{"id": c["id"], "name": c["name"]} for c in data["categories"]]
    categories.sort(key=lambda category: category["id"])
    return {
        "images": len(data["images"]),
        "images_without_objects": sum(count == 0 for count in objects),
        "annotations": len(annotations),
        "crowds": sum(bool(entry.get("iscrowd", 0)) for entry in annotations),
        "objects_an_image": dict(
            zip(("least", "median", "most"), _quantiles(objects), strict=True)
        ),
        "classes": [
            {**category, "objects": counts.get(category["id"], 0)} for category in categories
        ],
        "with_mask": sum(bool(entry.get("segmentation")) for entry in annotations),
        "boxes": _box_sizes(data, min_size, max_size),
    }


def outside(data: dict[str, Any], tolerance: float = 1.0) -> list[int]:
    """Places of annotations whose box extends beyond its image by more than some pixels."""
    boxes, sizes = _boxes(data)
    beyond = (boxes[:, :2] < -tolerance).any(axis=1)
    beyond |= (boxes[:, :2] + boxes[:, 2:] > sizes + tolerance).any(axis=1)
    return np.flatnonzero(beyond).tolist()


def _boxes(data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) x, y, width, height, and (N, 2) width and height of the image, NaN where unknown."""
    sizes = {
        image["id"]: (image.get("width") or np.nan, image.get("height") or np.nan)
        for image in data["images"]
    }
    annotations = data["annotations"]
    boxes = np.array([entry["bbox"] for entry in annotations], dtype=float).reshape(-1, 4)
    of_images = np.array([sizes[entry["image_id"]] for entry in annotations], dtype=float)
    return boxes, of_images.reshape(-1, 2)


def _box_sizes(data: dict[str, Any], min_size: int, max_size: int) -> dict[str, Any]:
    """Sizes of boxes, and the best anchor of each by its shape alone.

    "side" is the square root of the area in pixels of the resized image; "fit" the intersection
    over union of box and best anchor around one center. A real anchor lies up to half a stride
    beside it, so that the true share of boxes without an anchor is larger.
    """
    boxes, sizes = _boxes(data)
    known = ~np.isnan(sizes).any(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    area = boxes[:, 2] * boxes[:, 3]
    shapes, sizes = boxes[known, 2:], sizes[known]
    scale = np.minimum(min_size / sizes.min(axis=1), max_size / sizes.max(axis=1))
    shapes = shapes * scale[:, None]
    sides = np.sqrt(shapes.prod(axis=1))
    fit = _best_fit(shapes)
    low, high = IOU_THRESHOLDS
    return {
        "empty": int((area == 0).sum()),
        "small": int((area < SMALL).sum()),
        "medium": int(((area >= SMALL) & (area < MEDIUM)).sum()),
        "large": int((area >= MEDIUM).sum()),
        "sides": _histogram(sides),
        "side": dict(zip(("least", "median", "most"), _quantiles(sides), strict=True)),
        "without_anchor": int((fit < low).sum()),
        "with_doubtful_anchor": int(((fit >= low) & (fit < high)).sum()),
        "measured": int(known.sum()),
    }


def _best_fit(shapes: np.ndarray) -> np.ndarray:
    """(N,) largest intersection over union of (N, 2) widths and heights with an anchor's."""
    sizes, ratios = np.array(ANCHOR_SIZES)[:, None], np.array(ANCHOR_RATIOS)[None]
    widths, heights = (sizes / np.sqrt(ratios)).ravel(), (sizes * np.sqrt(ratios)).ravel()
    best = np.empty(len(shapes))
    for start in range(0, len(shapes), _BLOCK):
        width, height = (column[:, None] for column in shapes[start : start + _BLOCK].T)
        common = np.minimum(width, widths) * np.minimum(height, heights)
        best[start : start + _BLOCK] = (common / (width * height + widths * heights - common)).max(
            axis=1
        )
    return best


def _histogram(sides: np.ndarray) -> list[dict[str, float | None]]:
    """Boxes by side, in steps of a factor of two; the last one has no end."""
    edges = [0.0, *(float(2**power) for power in range(2, 11)), np.inf]
    counts, _ = np.histogram(sides, edges)
    return [
        {"from": low, "below": high if high < np.inf else None, "boxes": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _quantiles(values: Any) -> list[float]:
    return [float(q) for q in np.quantile(values, [0, 0.5, 1])] if len(values) else [0.0] * 3
