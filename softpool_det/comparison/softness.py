"""How sharply the stem's pooling chooses: zeros, largest weights and temperatures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling.backbone.resnet import BasicStem
from omegaconf import DictConfig
from torch import nn

from softpool_det.comparison.cost import test_loader
from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d
from softpool_det.training.detector import load_detector

IMAGES = 40


@dataclass(frozen=True)
class Softness:
    """Of one detector's stem, means over the windows of some test images.

    Attributes:
        zeros: share of zeros among the inputs of a window, 0 to 1.
        largest_weight: of the softmax weights of a window, 1 over its size to 1; 1 for max pooling.
        largest_weight_at_1: what the largest weight would be with a temperature of 1.
        beta: mean temperature over channels; None for max pooling.
        beta_low, beta_high: least and largest; None as above.
    """

    zeros: float
    largest_weight: float
    largest_weight_at_1: float
    beta: float | None
    beta_low: float | None
    beta_high: float | None


def measure_softness(
    detectors: Mapping[str, tuple[CfgNode | DictConfig, Path | str]],
) -> dict[str, Softness]:
    """Measure each detector's stem on the first test images; poolings of another kind are skipped.

    Args:
        detectors: by name, a config and its checkpoint.
    """
    found = {}
    for name, (cfg, weights) in detectors.items():
        model = load_detector(cfg, weights)
        stem = next((m for m in model.modules() if isinstance(m, PooledStem | BasicStem)), None)
        # BasicStem has its pooling in forward().
        pool = getattr(stem, "pool", nn.MaxPool2d(3, 2, 1))
        beta = None if stem is None else _temperature(pool)
        if beta is not None:
            batches = itertools.islice(test_loader(cfg), IMAGES)
            found[name] = _measure(model, stem, pool, beta, batches)
    return found


def _temperature(pool: nn.Module) -> torch.Tensor | None:
    """(1,) or (C,); None where the pooling is not a softmax-weighted mean."""
    if isinstance(pool, nn.MaxPool2d):
        return torch.tensor([torch.inf])
    if not isinstance(pool, SoftPool2d):
        return None
    return torch.as_tensor(pool.beta, dtype=torch.float32).detach().reshape(-1)


@torch.inference_mode()
def _measure(
    model: Any, stem: Any, pool: Any, beta: torch.Tensor, batches: Iterable[list[dict]]
) -> Softness:
    sums = torch.zeros(3, dtype=torch.float64)
    images = 0
    for batch in batches:
        for entry in batch:
            features = F.relu(stem.conv1(model.preprocess_image([entry]).tensor)).float().cpu()
            windows = _windows(features, pool)
            inside = windows.isfinite()
            zeros = ((windows == 0) & inside).sum(dim=2) / inside.sum(dim=2)
            sums[0] += zeros.mean()
            sums[1] += _largest_weight(windows, beta.cpu()).mean()
            sums[2] += _largest_weight(windows, torch.ones(1)).mean()
            images += 1
    zeros, largest, at_1 = (sums / images).tolist()
    betas: tuple = (None, None, None)
    if not beta.isinf().all():
        betas = beta.mean().item(), beta.min().item(), beta.max().item()
    return Softness(zeros, largest, at_1, *betas)


def _windows(features: torch.Tensor, pool: Any) -> torch.Tensor:
    """(1, C, taps, windows) of (1, C, H, W); -inf in the padding, no incomplete windows."""
    pads = _pair(pool.padding)
    padded = F.pad(features, (pads[1], pads[1], pads[0], pads[0]), value=-torch.inf)
    kernel = _pair(pool.kernel_size)
    columns = F.unfold(padded, kernel, dilation=_pair(pool.dilation), stride=_pair(pool.stride))
    return columns.reshape(1, features.shape[1], kernel[0] * kernel[1], -1)


def _largest_weight(windows: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """exp(0) over the sum of exp(beta * (x - maximum)); several maxima share an infinite beta."""
    if beta.isinf().all():
        return torch.ones(1)
    distance = windows - windows.amax(dim=2, keepdim=True)
    weights = torch.where(windows.isfinite(), (beta.reshape(1, -1, 1, 1) * distance).exp(), 0.0)
    return 1 / weights.sum(dim=2)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
