"""The constants of COCO's evaluation of boxes and masks (those of `pycocotools.cocoeval.Params`).

Axes that go by them: areas (A = 4), IoU thresholds (T = 10), recall thresholds (R = 101).
"""

from __future__ import annotations

import numpy as np

TASKS = ("bbox", "segm")
AREAS = ("all", "small", "medium", "large")
# Pixels, both ends included: an object of exactly 32 x 32 is small and medium.
AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=np.float64)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
# For each image and category.
MAX_DETECTIONS = 100
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
