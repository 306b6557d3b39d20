"""One result file matched with the ground truth by COCO's rules, once, into compact arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORED, TRUE_POSITIVE, FALSE_POSITIVE = 0, 1, 2


@dataclass(frozen=True)
class Matches:
    """What became of every detection and which objects there were.

    A = 4 areas, T = 10 IoU thresholds (both as in `protocol`), I images, K categories,
    D detections (at most 100 for each image and category, those with the highest scores),
    G ground-truth objects.

    Detections lie category after category and in each by falling score; equal scores keep the
    order of the image ids and, in an image, that of the result file. That is the order of
    pycocotools' `COCOeval.accumulate`.

    Attributes:
        image_ids: (I,) int64, rising; all images of the ground truth.
        category_ids: (K,) int64, rising.
        offsets: (K + 1,) int64; the detections of category k are `offsets[k]:offsets[k + 1]`.
        image: (D,) int32, index into `image_ids`.
        score: (D,) float64, any finite number.
        entry: (D,) int64, the detection's place in the result file, from 0.
        state: (A, T, D) uint8: IGNORED, TRUE_POSITIVE or FALSE_POSITIVE.
        matched: (T, D) int64, the id of the annotation that a detection took for the area "all",
            a crowd's included; 0 where it took none.
        object_ids: (G,) int64, annotation ids; never 0. Objects lie category after category and
            in each image after image, then in the order of the ground-truth file.
        object_image: (G,) int32, index into `image_ids`.
        object_category: (G,) int32, index into `category_ids`.
        object_ignored: (A, G) bool: a crowd, or outside the area. `object_ignored[0]` are the
            crowds.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    offsets: np.ndarray
    image: np.ndarray
    score: np.ndarray
    entry: np.ndarray
    state: np.ndarray
    matched: np.ndarray
    object_ids: np.ndarray
    object_image: np.ndarray
    object_category: np.ndarray
    object_ignored: np.ndarray

    @property
    def category(self) -> np.ndarray:
        """(D,) int32: the category of every detection, index into `category_ids`."""
        counts = np.diff(self.offsets)
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)
