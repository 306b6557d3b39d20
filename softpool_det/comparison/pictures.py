"""Validation images with the ground truth and what each arm finds, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig

from softpool_det.visualization import (
    build_predictor,
    dataset_metadata,
    draw,
    draw_ground_truth,
    read_image,
    write_image,
)

SCORE_THRESHOLD = 0.4
CAPTION_HEIGHT = 28


def draw_comparison(
    names: Sequence[str],
    detectors: Sequence[tuple[CfgNode | DictConfig, Path | str]],
    path: Path,
    count: int = 6,
) -> None:
    """Write one PNG with a row per validation image: ground truth, then each detector.

    Args:
        names: of the detectors, for the captions.
        detectors: a config and its checkpoint each; the first one's test data set is shown.
        path: of the PNG.
        count: images, the first of the data set.
    """
    predictors = [build_predictor(cfg, weights) for cfg, weights in detectors]
    metadata = dataset_metadata(detectors[0][0])
    rows = []
    for record in itertools.islice(DatasetCatalog.get(metadata.name), count):
        image = read_image(Path(record["file_name"]))
        panels = [draw_ground_truth(image, record, metadata)]
        panels += [draw(image, predict(image), metadata, SCORE_THRESHOLD) for predict in predictors]
        captions = ["ground truth", *names]
        rows.append(np.hstack([_caption(*pair) for pair in zip(panels, captions, strict=True)]))
    width = max(row.shape[1] for row in rows)
    write_image(path, np.vstack([_pad_right(row, width) for row in rows]))


def _caption(image: np.ndarray, text: str) -> np.ndarray:
    image = cv2.copyMakeBorder(
        image, CAPTION_HEIGHT, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255,) * 3
    )
    origin = (8, CAPTION_HEIGHT - 8)
    return cv2.putText(
        image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA
    )


def _pad_right(image: np.ndarray, width: int) -> np.ndarray:
    border = (0, 0, 0, width - image.shape[1])
    return cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(255,) * 3)
