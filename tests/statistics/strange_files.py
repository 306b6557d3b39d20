"""Files as strangers write them, made of a scene."""

from __future__ import annotations

import copy

import numpy as np
from pycocotools import mask as mask_utils

from softpool_det.coco.reading import read_detections, read_ground_truth

# Run lengths of a mask of 160x160 pixels without any object.
WHOLE = mask_utils.encode(np.zeros((160, 160), dtype=np.uint8, order="F"))["counts"].decode()


def read(paths):
    ground_truth = read_ground_truth(paths[0])
    return ground_truth, read_detections(paths[1], ground_truth)


def changed(entries: list[dict], index: int, **values) -> list[dict]:
    entries = copy.deepcopy(entries)
    entries[index].update(values)
    return entries


def with_annotation(truth: dict, **values) -> dict:
    return {**truth, "annotations": changed(truth["annotations"], 1, **values)}
