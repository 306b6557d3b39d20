"""One result file matched with the ground truth by COCO's rules, once, into compact arrays."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from pycocotools import mask as mask_utils

from softpool_det.coco.protocol import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
)
from softpool_det.coco.reading import Detections, GroundTruth
from softpool_det.statistics.greedy_matching import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    match_groups,
)

__all__ = ["FALSE_POSITIVE", "IGNORED", "TRUE_POSITIVE", "Matches", "match"]


@dataclass(frozen=True)
class Matches:
    """What became of every detection and which objects there were.

    A = 4 areas, T = 10 IoU thresholds (both as in `protocol`), I images, K categories,
    D detections (at most 100 for each image and category, those with the highest scores),
    G ground-truth objects.

    Detections lie category after category and in each by falling score. Equal scores are ordered
    by `tie_break`, then by image id and, in an image, as in the result file. With a `tie_break` of
    zeros that is the order of pycocotools' `COCOeval.accumulate`.

    Attributes:
        image_ids: (I,) int64, rising; all images of the ground truth.
        category_ids: (K,) int64, rising.
        offsets: (K + 1,) int64; the detections of category k are `offsets[k]:offsets[k + 1]`.
        image: (D,) int32, index into `image_ids`.
        score: (D,) float64, any finite number.
        entry: (D,) int64, the detection's place in the result file, from 0.
        tie_break: (D,) uint64, see :func:`tie_breaks`.
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
    tie_break: np.ndarray
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


def match(
    ground_truth: GroundTruth, detections: Detections, task: str, *, file_order: bool = False
) -> Matches:
    """Match one result file with the ground truth, as pycocotools' `COCOeval.evaluate` does.

    COCO's rules leave open which of two detections with equal scores comes first. pycocotools
    takes them in the file's order, so a file sorted by any other criterion has another AP. Here
    the order is random, but fixed by each detection itself: that of the file has no effect.

    For "segm" the area of a detection is that of its mask. (pycocotools takes the box's where
    the entries have boxes as well, so Detectron2 and others remove them first.)

    Args:
        ground_truth: from `results.read_ground_truth`.
        detections: from `results.read_detections`, of the same ground truth.
        task: "bbox" or "segm".
        file_order: whether equal scores keep the order of the file, as in pycocotools.

    Raises:
        ValueError: unknown task, or one that the files have no data for.
    """
    none = np.zeros(len(detections.score), dtype=np.uint64)
    tie_break = none if file_order else tie_breaks(detections, task)
    order = _kept(detections, tie_break)
    truths, found, det_areas = _shapes(ground_truth, detections, task, order)
    keys = _group_keys(detections.category[order], detections.image[order], ground_truth)
    object_keys = _group_keys(ground_truth.object_category, ground_truth.object_image, ground_truth)
    low, high = AREA_RANGES.T[:, :, None]
    object_ignored = (
        ground_truth.crowd.astype(bool) | (ground_truth.areas < low) | (ground_truth.areas > high)
    )
    outside = (det_areas < low) | (det_areas > high)
    shape = (len(AREA_RANGES), len(IOU_THRESHOLDS), len(order))
    state = (
        np.where(outside, IGNORED, FALSE_POSITIVE)
        .astype(np.uint8)[:, None]
        .repeat(shape[1], axis=1)
    )
    matched = np.zeros(shape[1:], dtype=np.int64)
    groups, ious = _overlaps(truths, found, ground_truth.crowd, keys, object_keys)
    match_groups(
        groups, ious, ground_truth.crowd, object_ignored, ground_truth.object_ids, state, matched
    )
    return _by_score(ground_truth, detections, tie_break, order, state, matched, object_ignored)


def tie_breaks(detections: Detections, task: str) -> np.ndarray:
    """(N,) uint64: by which detections of one category and score are ordered.

    A hash of the image and the box or mask. It is as good as random, but the same for a detection
    wherever it stands in its file, and for one that two detectors have in common.
    """
    shapes = detections.shapes(task)
    images = detections.image.astype("<i8")
    if task == "bbox":
        boxes = shapes.astype("<f8") + 0.0  # -0.0 is 0.0
        hashes = _mixed(images.view("<u8"))
        for column in boxes.view("<u8").T:
            hashes = _mixed(hashes ^ column)
        return hashes
    contents = [
        image.tobytes() + str(mask["counts"]).encode()
        for image, mask in zip(images, shapes, strict=True)
    ]
    digests = b"".join([blake2b(content, digest_size=8).digest() for content in contents])
    return np.frombuffer(digests, dtype="<u8")


def _mixed(values: np.ndarray) -> np.ndarray:
    """(N,) uint64, each value's bits mixed (Steele, Lea and Flood, OOPSLA 2014: SplitMix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _by_score(
    ground_truth: GroundTruth,
    detections: Detections,
    tie_break: np.ndarray,
    order: np.ndarray,
    state: np.ndarray,
    matched: np.ndarray,
    object_ignored: np.ndarray,
) -> Matches:
    """From image after image in each category to falling score in each category."""
    keys = (tie_break[order], -detections.score[order], detections.category[order])
    by_score = np.lexsort(keys)
    entry = order[by_score]
    counts = np.bincount(detections.category[entry], minlength=len(ground_truth.category_ids))
    return Matches(
        image_ids=ground_truth.image_ids,
        category_ids=ground_truth.category_ids,
        offsets=np.concatenate(([0], np.cumsum(counts))),
        image=detections.image[entry],
        score=detections.score[entry],
        entry=entry,
        tie_break=tie_break[entry],
        state=np.take(state, by_score, axis=2),
        matched=np.take(matched, by_score, axis=1),
        object_ids=ground_truth.object_ids,
        object_image=ground_truth.object_image,
        object_category=ground_truth.object_category,
        object_ignored=object_ignored,
    )


def _kept(detections: Detections, tie_break: np.ndarray) -> np.ndarray:
    """(D,) entries by category, image and falling score; the best of each category and image."""
    order = np.lexsort((tie_break, -detections.score, detections.image, detections.category))
    category, image = detections.category[order], detections.image[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(category) != 0) | (np.diff(image) != 0)
    starts = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return order[rank < MAX_DETECTIONS]


def _shapes(ground_truth: GroundTruth, detections: Detections, task: str, order: np.ndarray):
    """Objects, detections in the given order, and the detections' areas in pixels."""
    shapes = detections.shapes(task)
    if task == "bbox":
        boxes = shapes[order]
        return ground_truth.boxes, boxes, boxes[:, 2] * boxes[:, 3]
    masks = [shapes[i] for i in order.tolist()]
    # One by one: pycocotools 2.0.11 with numpy 2 fails on lists of more than 255.
    areas = np.fromiter(map(mask_utils.area, masks), dtype=np.float64, count=len(masks))
    return ground_truth.masks, masks, areas


def _group_keys(category: np.ndarray, image: np.ndarray, ground_truth: GroundTruth) -> np.ndarray:
    """One rising number for each category and image."""
    return category.astype(np.int64) * len(ground_truth.image_ids) + image


def _overlaps(
    truths, found, crowd: np.ndarray, keys: np.ndarray, object_keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """IoU of detections and objects wherever a category and image has both.

    Returns:
        (P, 4) int64: first and last + 1 of a group's detections, then of its objects.
        (sum of detections x objects,) float64: the groups' IoU, each row a detection.
    """
    common = np.intersect1d(keys, object_keys)
    groups = np.stack(
        [
            np.searchsorted(keys, common, "left"),
            np.searchsorted(keys, common, "right"),
            np.searchsorted(object_keys, common, "left"),
            np.searchsorted(object_keys, common, "right"),
        ],
        axis=1,
    )
    ious = [
        mask_utils.iou(found[a:b], truths[c:d], crowd[c:d]).ravel()
        for a, b, c, d in groups.tolist()
    ]
    return groups, np.concatenate(ious) if ious else np.zeros(0)
