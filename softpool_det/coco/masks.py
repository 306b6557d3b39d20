"""Segmentations of COCO files, compressed and measured."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as mask_utils

from softpool_det.coco.checks import polygons_fault, segmentation_fault


def compressed(segmentation: Any, height: int, width: int) -> dict:
    """Compress a polygon list or run-length encoding, as pycocotools' `COCO.annToRLE`.

    Args:
        segmentation: as read from JSON.
        height, width: of the image in pixels; 0 where they are not known.

    Raises:
        ValueError: it is neither, or not of that size.
    """
    if fault := segmentation_fault(segmentation, height, width):
        raise ValueError(str(fault))
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        if isinstance(segmentation["counts"], str):
            return {"size": segmentation["size"], "counts": segmentation["counts"]}
    try:
        encoded = mask_utils.frPyObjects(segmentation, height, width)
        return mask_utils.merge(encoded) if isinstance(encoded, list) else encoded
    except Exception as error:  # Cython raises bare Exception.
        raise ValueError(f"the segmentation cannot be read: {error}") from error


def area_of(annotation: dict[str, Any], height: int, width: int) -> float:
    """Return the pixels of an annotation's mask in its image, or of its box without a mask.

    Polygons of fewer than three points do not count, as in Detectron2.

    Args:
        annotation: with `bbox`, and `segmentation` where there is a mask.
        height, width: of the image in pixels.

    Raises:
        ValueError: the segmentation cannot be right.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        if fault := polygons_fault(segmentation):
            raise ValueError(str(fault))
        segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not segmentation:
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    return float(mask_utils.area(compressed(segmentation, height, width)))
