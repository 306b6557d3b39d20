"""What the stem's pooling keeps: feature maps before it, and after max pooling and SoftPool.

The counterpart, on features, of Figures 3 and 5 of the SoftPool paper (Stergiou et al., ICCV 2021).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling.backbone.resnet import BasicStem
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from softpool_det.io.images import read_bgr
from softpool_det.modeling import PooledStem
from softpool_det.ops import soft_pool2d
from softpool_det.report.pictures import PictureRow
from softpool_det.training.annotation_checks import check_evaluation_annotations
from softpool_det.training.detector import load_detector
from softpool_det.training.predictor import build_input_maker

# Pixels of a panel's longer side.
PANEL_SIDE = 360
COLOUR_MAP = "viridis"
# Detectors with which three channels each are still to be taken in at a glance.
FEW_DETECTORS = 2

# Of BasicStem, and of a pooling that does not expose its own.
_STOCK_WINDOW = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False}


def dataset_activation_rows(
    detectors: Sequence[tuple[str, CfgNode | DictConfig, Path | str]], dataset: str
) -> list[PictureRow]:
    """Feature maps of each detector's stem, on the data set's first image with an object."""
    check_evaluation_annotations(dataset)  # puts sizes that are missing into the catalog
    records = DatasetCatalog.get(dataset)
    record = next((record for record in records if record["annotations"]), records[0])
    channels = 3 if len(detectors) <= FEW_DETECTORS else 1
    return activation_rows(detectors, read_bgr(Path(record["file_name"])), channels)


def activation_rows(
    detectors: Sequence[tuple[str, CfgNode | DictConfig, str | Path]],
    image_bgr: np.ndarray,
    channels: int = 3,
) -> list[PictureRow]:
    """Feature maps of each detector's stem on one image.

    Each row is a channel of conv1's output (after norm and ReLU), and the same map pooled by max
    and by SoftPool in the window of that detector. One of the two is what the detector itself does
    and says so; there is a fourth panel where neither is. All panels of a row have one colour
    scale. Shown are the channels whose map varies most (standard deviation over the image).

    Args:
        detectors: a name, a config and the weights each.
        image_bgr: uint8 (H, W, 3).
        channels: how many, for each detector.

    Raises:
        ValueError: `channels` is not positive, or a detector has no ResNet stem known here.
    """
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}")
    rows = []
    for name, cfg, weights in detectors:
        model = load_detector(cfg, weights)
        entry = build_input_maker(cfg)(image_bgr)
        with torch.inference_mode():
            rows += _rows_of(name, model, entry, channels)
    return rows


def _rows_of(name: str, model: Any, entry: dict[str, Any], channels: int) -> list[PictureRow]:
    stem = _stem_of(name, model)
    image = model.preprocess_image([entry]).tensor
    features = F.relu(stem.conv1(image))
    window = _window_of(stem)
    maps = {
        "max": F.max_pool2d(features, **window),
        "SoftPool": soft_pool2d(features, **window),
    }
    own = stem(image)
    labels = {
        key: f"{key} pooling{', as this detector does' if _is_equal(own, pooled) else ''}"
        for key, pooled in maps.items()
    }
    panels = [("before pooling", features)]
    panels += [(labels[key], pooled) for key, pooled in maps.items()]
    if not any(_is_equal(own, pooled) for pooled in maps.values()):
        panels.append(("its own pooling", own))
    spread = features[0].flatten(1).std(dim=1)
    strongest = spread.argsort(descending=True, stable=True)[:channels].tolist()
    return [_row(name, channel, panels, window) for channel in strongest]


def _stem_of(name: str, model: nn.Module) -> Any:
    for module in model.modules():
        if isinstance(module, PooledStem | BasicStem):
            return module
    raise ValueError(
        f"detector {name!r} must have a BasicStem or a PooledStem, got a {type(model).__name__} "
        "without one"
    )


def _window_of(stem: nn.Module) -> dict[str, Any]:
    pool = getattr(stem, "pool", None)
    if not hasattr(pool, "kernel_size"):
        return _STOCK_WINDOW
    return {key: getattr(pool, key, default) for key, default in _STOCK_WINDOW.items()}


def _is_equal(own: torch.Tensor, pooled: torch.Tensor) -> bool:
    return own.shape == pooled.shape and torch.allclose(own, pooled, rtol=1e-3, atol=1e-4)


def _row(
    name: str, channel: int, panels: list[tuple[str, torch.Tensor]], window: dict[str, Any]
) -> PictureRow:
    maps = [(label, features[0, channel].float().cpu().numpy()) for label, features in panels]
    top = float(maps[0][1].max())
    kernel, stride, padding = (_side(window[key]) for key in ("kernel_size", "stride", "padding"))
    caption = (
        f"Window {kernel}, stride {stride}, padding {padding}. Dark is 0, bright is {top:.2f} in "
        "every panel; chosen because this channel varies among the most."
    )
    pictures = [
        (
            f"{label}: {values.shape[1]} x {values.shape[0]}, mean {values.mean():.2f}",
            _png(values, top),
        )
        for label, values in maps
    ]
    return PictureRow(f"{name}: channel {channel}", caption, pictures)


def _side(size: int | Sequence[int]) -> str:
    return "x".join(map(str, size)) if isinstance(size, Sequence) else f"{size}x{size}"


def _png(values: np.ndarray, top: float) -> bytes:
    """Draw the map in colours from 0 to `top`, enlarged without smoothing."""
    colours = matplotlib.colormaps[COLOUR_MAP](values / top if top > 0 else values, bytes=True)
    image = Image.fromarray(np.ascontiguousarray(colours[:, :, :3]))
    scale = PANEL_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    buffer = io.BytesIO()
    image.resize(size, method).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
