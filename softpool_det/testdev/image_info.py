"""The images and categories that a result file may speak of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageInfo:
    """Images and categories of a file like `image_info_test-dev2017.json`.

    Args:
        sizes: (height, width) in pixels, by image id.
        category_ids: the ids that a detection may have (80 of them in COCO, from 1 to 90).
    """

    sizes: dict[int, tuple[int, int]]
    category_ids: frozenset[int]


def read_image_info(path: Path) -> ImageInfo:
    """Read the images and categories of a COCO file; annotations are not needed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a COCO file with images (id, height, width) and categories (id).
    """
    try:
        data = json.loads(path.read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
        category_ids = frozenset(category["id"] for category in data["categories"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} must be COCO's image_info: an object with images (id, height, width) and "
            f"categories (id); reading it failed with {error!r}"
        ) from error
    if not sizes or not category_ids:
        raise ValueError(
            f"{path} must name images and categories, it has {len(sizes)} and {len(category_ids)}"
        )
    return ImageInfo(sizes, category_ids)
