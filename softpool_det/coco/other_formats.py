"""Other formats' data sets as COCO's JSON: what their readers share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from softpool_det.io.atomic import write_atomically

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


# Its class (from 0), the box (x0, y0, x1, y1) in pixels, and the polygon, x and y by turns, empty
# where it has none.
Object = tuple[int, Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its objects.

    Args:
        path: of the image.
        size: (width, height) in pixels, as the image is shown (EXIF).
        objects: see `Object`.
    """

    path: Path
    size: tuple[int, int]
    objects: list[Object] = field(default_factory=list)


def images_in(folder: Path) -> list[Path]:
    """List the images below a folder, by their suffix, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def as_coco(classes: Sequence[str], images: Sequence[LabelledImage]) -> tuple[dict, Path]:
    """COCO's content, all ids from 1, and the folder that `file_name` starts from."""
    root = Path(os.path.commonpath([image.path.parent.absolute() for image in images]))
    data: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, 1)],
        "annotations": [],
    }
    for number, image in enumerate(images, 1):
        name = str(image.path.absolute().relative_to(root))
        width, height = image.size
        data["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        for place, (x0, y0, x1, y1), polygon in image.objects:
            entry: dict[str, Any] = {
                "id": len(data["annotations"]) + 1,
                "image_id": number,
                "category_id": place + 1,
                "iscrowd": 0,
                "bbox": _rounded([x0, y0, x1 - x0, y1 - y0]),
                "area": round(_area(polygon) if polygon else (x1 - x0) * (y1 - y0), 4),
            }
            if polygon:
                entry["segmentation"] = [_rounded(polygon)]
            data["annotations"].append(entry)
    return data, root


def write_if_changed(path: Path, data: dict) -> None:
    """Write JSON atomically; a file of the same content stays as it is."""
    text = msgspec.json.encode(data).decode()
    if not path.is_file() or path.read_bytes() != text.encode():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)


def _area(polygon: Sequence[float]) -> float:
    """Compute a polygon's area with the shoelace formula."""
    xs, ys = polygon[::2], polygon[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]
