"""Checks of single detections against the images and categories they speak of."""

from __future__ import annotations

from array import array
from typing import Any

from softpool_det.coco.checks import (
    CORNERS_HINT,
    MISSING,
    TEST_DEV,
    Fault,
    box_fault,
    category_id_fault,
    image_id_fault,
    is_known,
    score_fault,
    segmentation_fault,
    shorten,
)
from softpool_det.testdev.image_info import ImageInfo
from softpool_det.testdev.violations import Tally

Size = tuple[int, int]


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
        image_id = entry.get("image_id", MISSING)
        known = is_known(image_id, self.info.sizes, TEST_DEV)
        size = self.info.sizes[image_id] if known else None
        faults = [
            image_id_fault(image_id, self.info.sizes, TEST_DEV, "the image_info"),
            category_id_fault(entry.get("category_id", MISSING), self.info.category_ids, TEST_DEV),
            score_fault(entry.get("score", MISSING), TEST_DEV),
            *self._shape_faults(entry, size),
            self._count_fault(image_id) if known else None,
        ]
        for fault in filter(None, faults):
            named = None if image_id is MISSING else image_id
            self.tally.add(fault.field, shorten(fault.value), fault.expected, index, named)

    def _count_fault(self, image_id: int) -> Fault | None:
        place = self._place[image_id]
        self.detections[place] += 1
        number, limit = self.detections[place], TEST_DEV.max_detections
        if limit is None or number <= limit:
            return None
        return Fault(
            "image_id", image_id, f"that of at most {limit} entries, this is number {number}"
        )

    def _shape_faults(self, entry: dict[str, Any], size: Size | None) -> list[Fault | None]:
        kinds: set[str] = {"bbox", "segmentation"} & entry.keys()
        if not self._kinds:
            # Evaluation decides by the first entry whether a file has boxes or masks.
            self._kinds = kinds or {"bbox"}
        faults: list[Fault | None] = [
            Fault(kind, MISSING, "there, as in the entries before") for kind in self._kinds - kinds
        ]
        if "bbox" in kinds:
            self.boxes += 1
            fault = box_fault(entry["bbox"], TEST_DEV, size)
            self.corner_boxes += bool(fault and fault.expected.endswith(CORNERS_HINT))
            faults.append(fault)
        if "segmentation" in kinds:
            self.masks += 1
            faults.append(segmentation_fault(entry["segmentation"], *size or (0, 0), TEST_DEV))
        return faults
