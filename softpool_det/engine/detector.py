"""A trained detector, ready for inference."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode, instantiate
from omegaconf import DictConfig
from torch import nn

from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.engine.trainer import Trainer


def load_detector(cfg: CfgNode | DictConfig, weights: str | Path) -> nn.Module:
    """Build the model that a config describes, on its device and in evaluation mode.

    Args:
        cfg: what :func:`softpool_det.config.load_config` returns.
        weights: a path or URL of the detector's checkpoint.
    """
    if isinstance(cfg, CfgNode):
        model = Trainer.build_model(cfg)
    else:
        model = instantiate(cfg.model).to(cfg.train.device)
    SafeCheckpointer(model).load(str(weights))
    return model.eval()
