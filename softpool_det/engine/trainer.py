"""Detectron2's DefaultTrainer with COCO evaluation and a choice of optimizer and layout."""

from __future__ import annotations

import os
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.engine.hooks import ProgressLine, TrainingClock


class Trainer(DefaultTrainer):
    """Trains and evaluates what a config with `add_training_config`'s keys describes.

    Args:
        cfg: the config.
        progress: label of a progress line on stderr; "" for none.
        trust_pickle: start from a `.pkl` that is not of Detectron2's model zoo, too.
    """

    def __init__(self, cfg: CfgNode, progress: str = "", trust_pickle: bool = False) -> None:
        self.clock = TrainingClock()
        self.progress = progress
        self.trust_pickle = trust_pickle
        super().__init__(cfg)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = super().build_model(cfg)
        if cfg.MODEL.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        if cfg.SOLVER.OPTIMIZER == "SGD":
            optimizer = super().build_optimizer(cfg, model)
        elif cfg.SOLVER.OPTIMIZER == "AdamW":
            optimizer = build_adamw(cfg, model)
        else:
            raise ValueError(f"SOLVER.OPTIMIZER must be SGD or AdamW, got {cfg.SOLVER.OPTIMIZER!r}")
        if cfg.SOLVER.FULL_MODEL_CLIP_NORM > 0:
            limit_gradient_norm(optimizer, cfg.SOLVER.FULL_MODEL_CLIP_NORM)
        return optimizer

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        return COCOEvaluator(dataset_name, output_dir=folder)

    def build_hooks(self) -> list[HookBase]:
        # DefaultTrainer has just made a checkpointer that would unpickle anything.
        self.checkpointer = SafeCheckpointer(
            self._trainer.model,
            self.cfg.OUTPUT_DIR,
            trust_pickle=self.trust_pickle,
            allow_other_stem_pool=self.cfg.MODEL.ALLOW_OTHER_STEM_POOL,
            trainer=weakref.proxy(self),
        )
        # First, so that its after_step comes before evaluation and checkpoints.
        return [self.clock, *super().build_hooks()]

    def build_writers(self) -> list[EventWriter]:
        writers = super().build_writers()
        if self.progress and comm.is_main_process():
            writers.append(ProgressLine(self.progress, self.max_iter))
        return writers


def build_adamw(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with the SOLVER keys that Detectron2's SGD takes, but for momentum."""
    params = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer = torch.optim.AdamW(
        params,
        lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        # A fused step undoes the gradient scaling of mixed precision by itself, too late for
        # anything that looks at the gradients before.
        fused=not cfg.SOLVER.AMP.ENABLED,
    )
    return maybe_add_gradient_clipping(cfg, optimizer)


def limit_gradient_norm(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Before each step, scale all gradients together so that their norm is at most `limit`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip(*_) -> None:
        nn.utils.clip_grad_norm_(parameters, limit)

    optimizer.register_step_pre_hook(clip)
