"""Tiles of real aerial photographs with a box around every tree crown: one class, no masks.

The photographs and their VOC annotations are those of deepforest's wheel. No place is in two
splits: each split has one of the two large photographs (Yellowstone) and one small one.
"""

import functools
import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from softpool_det.coco.voc import parse_voc
from softpool_det.datasets.cache import MadeDataset, Scene
from softpool_det.datasets.wheels import Wheel, open_wheel

PHOTOGRAPHS = Wheel(
    "deepforest==2.1.0",
    "deepforest-2.1.0-py3-none-any.whl",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
)
NAMES = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2", "OSBS_029"),
    "val": ("2019_YELL_2_541000_4977000_image_crop", "SOAP_061"),
}
# The sides of a tile are about this long, so that tiles of one size leave no strip over.
_TILE_SIDE = 256
# Boxes with less of their area in a tile are left out there.
_MIN_VISIBLE = 0.5


def _tiles(root: Path, split: str) -> Iterator[Scene]:
    """Tiles of the split's photographs; those for training overlap by half."""
    with open_wheel(PHOTOGRAPHS, root) as wheel:
        for name in NAMES[split]:
            with Image.open(io.BytesIO(wheel.read(f"deepforest/data/{name}.png"))) as opened:
                photograph = np.asarray(opened.convert("RGB"))
            voc = parse_voc(wheel.read(f"deepforest/data/{name}.xml"))
            boxes = np.array(voc.boxes, np.int64)
            rows, columns = (spans(side, split == "train") for side in photograph.shape[:2])
            for (top, bottom), (left, right) in product(rows, columns):
                tile = photograph[top:bottom, left:right]
                yield Scene(tile, _annotations(clip_boxes(boxes, left, top, right, bottom)))


def clip_boxes(boxes: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Move boxes into a window's coordinates, clipped, without those that are mostly outside.

    Args:
        boxes: (N, 4) integer boxes (x0, y0, x1, y1) in the photograph.
        left, top, right, bottom: the window, right and bottom exclusive.

    Returns:
        (M, 4) boxes in the window, each at least half visible.
    """
    low, high = np.array([left, top]), np.array([right, bottom])
    corner0 = np.clip(boxes[:, :2], low, high)
    corner1 = np.clip(boxes[:, 2:], low, high)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = (corner1 - corner0).prod(1) >= np.maximum(_MIN_VISIBLE * area, 1)
    return np.concatenate([corner0 - low, corner1 - low], axis=1)[kept]


def spans(side: int, overlap: bool) -> list[tuple[int, int]]:
    """Evenly divide a photograph's side into pieces of about 256 pixels.

    Args:
        side: pixels along the side, at least 2.
        overlap: whether a piece starts at every half piece, or where the last one ends.

    Returns:
        (start, end) of each piece, end exclusive; together they cover the side.
    """
    halves = 2 * max(round(side / _TILE_SIDE), 1)
    bounds = [i * side // halves for i in range(halves + 1)]
    return [(bounds[i], bounds[i + 2]) for i in range(0, halves - 1, 1 if overlap else 2)]


def _annotations(boxes: np.ndarray) -> list[dict]:
    """COCO annotations; without masks, the area is the box's."""
    return [
        {"category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        for x0, y0, x1, y1 in boxes.tolist()
    ]


DATASETS = (
    MadeDataset(
        "tree_crowns_train",
        ("tree",),
        functools.partial(_tiles, split="train"),
        "df47c97346f7e0612047bd1c040276e53561f9a08f8facf3e8b25cc4e041df78",
    ),
    MadeDataset(
        "tree_crowns_val",
        ("tree",),
        functools.partial(_tiles, split="val"),
        "eb4397cb707552cf27195f457dd001face031eea912805be9c80595213379c2f",
    ),
)
