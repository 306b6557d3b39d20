"""A trained detector, ready for inference."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode, instantiate
from omegaconf import DictConfig
from torch import nn

from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.lazy import allows_other_stem_pool
from softpool_det.training.trainer import Trainer


def load_detector(cfg: CfgNode | DictConfig, weights: str | Path) -> nn.Module:
    """Build the model that a config describes, on its device and in evaluation mode.

    Args:
        cfg: what :func:`softpool_det.config.load_config` returns.
        weights: a path or URL of the detector's checkpoint; a `.pkl` only by its address in
            Detectron2's model zoo.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it lacks part of the model, or has another shape of it; names the config key
            that is probably wrong.
    """
    if "://" not in str(weights) and not Path(weights).is_file():
        raise FileNotFoundError(
            f"weights {weights} do not exist; train them with softpool-train, or name a "
            "checkpoint of the detector"
        )
    if isinstance(cfg, CfgNode):
        model, other_pool = Trainer.build_model(cfg), cfg.MODEL.ALLOW_OTHER_STEM_POOL
    else:
        model = instantiate(cfg.model).to(cfg.train.device)
        other_pool = allows_other_stem_pool(cfg)
    checkpointer = SafeCheckpointer(model, allow_other_stem_pool=other_pool, complete=True)
    checkpointer.load(str(weights))
    return model.eval()
