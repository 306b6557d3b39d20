"""Detectron2's DefaultTrainer for any device and number of processes, whose runs can be cut off."""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import COCOEvaluator
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from softpool_det.io.data_errors import Skipped
from softpool_det.layers.learning import weight_decay_overrides
from softpool_det.training.amp_trainer import PRECISIONS, StepTrainer
from softpool_det.training.averaging import AveragedWeights
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.choosing import BestCheckpoint, StoppedEarly, evaluation_hooks
from softpool_det.training.evaluator import Evaluator
from softpool_det.training.event_writers import build_event_writers
from softpool_det.training.hooks import ProgressLine, TrainingClock
from softpool_det.training.loaders import build_test_loader, build_train_loader
from softpool_det.training.run_errors import save_bad_batch
from softpool_det.training.signals import StopOnSignal
from softpool_det.training.state_hooks import (
    LeftOut,
    LossNormalizer,
    Randomness,
    share_loss_normalizer,
)
from softpool_det.training.train_loader import TrainLoader


class Trainer(DefaultTrainer):
    """Trains and evaluates what a config with `add_training_config`'s keys describes.

    Args:
        cfg: the config.
        progress: label of a progress line on stderr; "" for none.
        trust_pickle: start from a `.pkl` that is not of Detectron2's model zoo, too.

    Attributes:
        skipped: what was left out of the training (`INPUT.SKIP_CORRUPT`).
        evaluated: the model that is evaluated and saved: with averaged weights, where they are
            averaged (`SOLVER.EMA_DECAY`).
    """

    def __init__(self, cfg: CfgNode, progress: str = "", trust_pickle: bool = False) -> None:
        # Not DefaultTrainer's, which trains several processes on GPUs only.
        TrainerBase.__init__(self)
        self.clock, self.skipped = TrainingClock(), Skipped()
        self.progress, self.trust_pickle = progress, trust_pickle
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg, self.start_iter, self.max_iter = cfg, 0, cfg.SOLVER.MAX_ITER
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        self.loader = self.build_train_loader(cfg, self.skipped)
        decay, steps = cfg.SOLVER.EMA_DECAY, cfg.SOLVER.ACCUMULATE_STEPS
        # This gives all processes the first one's weights, which the average starts from.
        distributed = distribute(model, cfg.MODEL.DEVICE, broadcast_buffers=False)
        self.averaged = AveragedWeights(model, decay) if decay else None
        shares = cfg.SOLVER.SHARE_LOSS_NORMALIZER
        correction = share_loss_normalizer(model, steps) if shares else None
        self._trainer = StepTrainer(
            distributed,
            self.loader,
            optimizer,
            precision=find_precision(cfg),
            on_bad_loss=functools.partial(save_bad_batch, Path(cfg.OUTPUT_DIR)),
            accumulate=steps,
            correction=correction,
        )
        self.evaluated = self._trainer.model if self.averaged is None else self.averaged.average
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(
            self.evaluated,
            cfg.OUTPUT_DIR,
            trust_pickle=trust_pickle,
            allow_other_stem_pool=cfg.MODEL.ALLOW_OTHER_STEM_POOL,
            trainer=weakref.proxy(self),
        )
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest whole checkpoint in the output folder, or load `MODEL.WEIGHTS`."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if self.checkpointer.is_resumed:
            self.start_iter = self.iter + 1

    def train(self) -> None:
        """Train; then evaluate on the test sets, with the best weights where they are chosen."""
        with contextlib.suppress(StoppedEarly):
            super().train()
        best = next((hook for hook in self._hooks if isinstance(hook, BestCheckpoint)), None)
        if best is not None:
            best.restore()
        if self.cfg.DATASETS.TEST and (best is not None or self.cfg.DATASETS.VALIDATION):
            self._last_eval_results = self.test(self.cfg, self.evaluated)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = super().build_model(cfg)
        if cfg.MODEL.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        if cfg.MODEL.COMPILE_BACKBONE:
            # In place: names in the state dict stay. Images have many sizes.
            model.backbone.compile(dynamic=True)
        return model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, skipped: Skipped | None = None) -> TrainLoader:
        return build_train_loader(cfg, Skipped() if skipped is None else skipped)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        if cfg.SOLVER.OPTIMIZER not in OPTIMIZERS:
            raise ValueError(f"SOLVER.OPTIMIZER must be SGD or AdamW, got {cfg.SOLVER.OPTIMIZER!r}")
        optimizer = OPTIMIZERS[cfg.SOLVER.OPTIMIZER](cfg, parameter_groups(cfg, model))
        optimizer = maybe_add_gradient_clipping(cfg, optimizer)
        if cfg.SOLVER.FULL_MODEL_CLIP_NORM > 0:
            limit_gradient_norm(optimizer, cfg.SOLVER.FULL_MODEL_CLIP_NORM)
        return optimizer

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        return Evaluator(dataset_name, output_dir=folder)

    def build_hooks(self) -> list[HookBase]:
        # The clock here, so that its after_step comes before evaluation and checkpoints.
        state = [*filter(None, [self.averaged]), self.clock, Randomness(self.loader)]
        state += [LossNormalizer(self._trainer.model), LeftOut(self.skipped)]
        found = [hook for hook in super().build_hooks() if hook is not None]
        place = next(i for i, hook in enumerate(found) if isinstance(hook, hooks.EvalHook))
        found[place : place + 1] = self._evaluation_hooks()
        return insert_stop([*state, *found], StopOnSignal(self.checkpointer))

    def _evaluation_hooks(self) -> list[HookBase]:
        cfg, datasets = self.cfg.clone(), self.cfg.DATASETS.VALIDATION or self.cfg.DATASETS.TEST
        cfg.defrost()
        cfg.DATASETS.TEST = datasets

        def evaluate() -> dict:
            self._last_eval_results = self.test(cfg, self.evaluated)
            return self._last_eval_results

        period, chosen_by = cfg.TEST.EVAL_PERIOD, (cfg.TEST.BEST_METRIC, cfg.TEST.PATIENCE)
        evaluation = hooks.EvalHook(period, evaluate)
        return evaluation_hooks(evaluation, period, self.checkpointer, *chosen_by, datasets)

    def build_writers(self) -> list[EventWriter]:
        writers = super().build_writers()
        writers += build_event_writers(self.cfg.LOG.WRITERS, Path(self.cfg.OUTPUT_DIR))
        if self.progress and comm.is_main_process():
            writers.append(ProgressLine(self.progress, self.max_iter))
        return writers


def insert_stop(found: list[HookBase], stop: StopOnSignal) -> list[HookBase]:
    """`found` with `stop` behind what is part of a step, before checkpoints and evaluation."""
    after = (hooks.PeriodicCheckpointer, hooks.EvalHook)
    place = next(i for i, hook in enumerate(found) if isinstance(hook, after))
    return [*found[:place], stop, *found[place:]]


def distribute(model: nn.Module, device: str, **options: Any) -> nn.Module:
    """Prepare the model for this process, one of several or the only one.

    Args:
        model: on its device.
        device: of the config.
        options: of DistributedDataParallel.
    """
    if torch.device(device).type == "cpu":
        options["device_ids"] = None
    return create_ddp_model(model, **options)


def find_precision(cfg: CfgNode) -> torch.dtype | None:
    """Return the precision of a training's forward; None for float32.

    Raises:
        ValueError: `SOLVER.AMP.DTYPE` is unknown.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.SOLVER.AMP.DTYPE not in PRECISIONS:
        raise ValueError(
            f"SOLVER.AMP.DTYPE must be one of {', '.join(PRECISIONS)}, got {cfg.SOLVER.AMP.DTYPE!r}"
        )
    return PRECISIONS[cfg.SOLVER.AMP.DTYPE]


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Detectron2's groups of a config; a learned temperature is one without weight decay."""
    return get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        overrides=weight_decay_overrides(model),
    )


def build_sgd(cfg: CfgNode, params: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Detectron2's own SGD, whose builder makes the groups itself."""
    return torch.optim.SGD(
        params,
        lr=cfg.SOLVER.BASE_LR,
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        foreach=True,
    )


def build_adamw(cfg: CfgNode, params: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW with the SOLVER keys that Detectron2's SGD takes, but for momentum."""
    return torch.optim.AdamW(
        params,
        lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        # A fused step undoes the gradient scaling of mixed precision by itself, too late for
        # anything that looks at the gradients before.
        fused=not cfg.SOLVER.AMP.ENABLED,
    )


OPTIMIZERS = {"SGD": build_sgd, "AdamW": build_adamw}


def limit_gradient_norm(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Before each step, scale all gradients together so that their norm is at most `limit`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip(*_) -> None:
        nn.utils.clip_grad_norm_(parameters, limit)

    optimizer.register_step_pre_hook(clip)
