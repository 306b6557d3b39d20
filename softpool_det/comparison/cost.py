"""What a detector costs after training: parameters, operations, inference time."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import build_detection_test_loader
from detectron2.utils.analysis import FlopCountAnalysis
from omegaconf import DictConfig
from torch import nn

from softpool_det.training.detector import load_detector

TIMED_IMAGES = 40
WARM_UP_IMAGES = 5


@dataclass(frozen=True)
class Cost:
    """Of one detector.

    Args:
        parameters: their number.
        gflops: 1e9 multiply-adds of the first image, as fvcore counts them: convolutions, matrix
            products and norms, no pooling.
        inference_ms: milliseconds an image, median, one image at a time.
    """

    parameters: int
    gflops: float
    inference_ms: float


def measure_costs(detectors: Sequence[tuple[CfgNode | DictConfig, Path | str]]) -> list[Cost]:
    """Measure detectors, each a config and its checkpoint, on the first one's validation images.

    The detectors take each image in turn, so that whatever else the machine does meets them all.
    """
    models = [load_detector(cfg, weights) for cfg, weights in detectors]
    loader = test_loader(detectors[0][0])
    images = list(itertools.islice(loader, WARM_UP_IMAGES + TIMED_IMAGES))
    times = _inference_ms(models, images)
    return [
        Cost(sum(p.numel() for p in model.parameters()), _gflops(model, images[0]), milliseconds)
        for model, milliseconds in zip(models, times, strict=True)
    ]


def test_loader(cfg: CfgNode | DictConfig):
    """Detectron2's loader of the first data set to test on, an image at a time."""
    if isinstance(cfg, CfgNode):
        return build_detection_test_loader(cfg, cfg.DATASETS.TEST[0])
    return instantiate(cfg.dataloader.test)


@torch.no_grad()
def _inference_ms(models: Sequence[nn.Module], batches: Sequence[list[dict]]) -> list[float]:
    times: list[list[float]] = [[] for _ in models]
    for batch in batches:
        for model, taken in zip(models, times, strict=True):
            start = time.perf_counter()
            model(batch[:1])
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken[WARM_UP_IMAGES:] or taken) for taken in times]


def _gflops(model: nn.Module, batch: list[dict]) -> float:
    analysis = FlopCountAnalysis(model, batch[:1])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.total() / 1e9
