"""What the stem's pooling keeps: feature maps before it, and after max pooling and SoftPool.

The counterpart, on features, of Figures 3 and 5 of the SoftPool paper (Stergiou et al., ICCV 2021).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling.backbone.resnet import BasicStem
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from softpool_det.engine.detector import load_detector
from softpool_det.modeling import PooledStem
from softpool_det.ops import soft_pool2d
from softpool_det.report.pictures import GalleryRow
from softpool_det.visualization import build_input

# Pixels of a panel's longer side.
PANEL_SIDE = 360
COLOUR_MAP = "viridis"


@dataclass(frozen=True)
class _Window:
    kernel: int
    stride: int
    padding: int
    ceil_mode: bool

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel}, stride {self.stride}, padding {self.padding}"

    def pool(self, features: torch.Tensor, name: str) -> torch.Tensor:
        function = F.max_pool2d if name == "max" else soft_pool2d
        return function(
            features, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode
        )


def activation_rows(
    detectors: Sequence[tuple[str, CfgNode | DictConfig, str | Path]],
    image_bgr: np.ndarray,
    channels: int = 3,
) -> list[GalleryRow]:
    """Feature maps of each detector's stem on one image.

    Each row is a channel of conv1's output (after norm and ReLU), and the same map pooled by max
    and by SoftPool in the window of that detector; one of them, or a further panel, is what the
    detector itself does. All panels of a row have one colour scale. Shown are the channels whose
    map varies most (largest standard deviation over the image).

    Args:
        detectors: a name, a config and the weights each.
        image_bgr: uint8 (H, W, 3).
        channels: how many, for each detector.

    Raises:
        ValueError: `channels` is not positive.
        TypeError: a detector has no ResNet stem that is known here.
    """
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}")
    rows = []
    for name, cfg, weights in detectors:
        model = load_detector(cfg, weights)
        with torch.inference_mode():
            rows += _rows_of(name, model, build_input(cfg, image_bgr), channels)
    return rows
