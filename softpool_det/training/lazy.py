"""Training and evaluation from a LazyConfig, whose objects build themselves."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import build_detection_train_loader
from detectron2.engine import HookBase, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.solver import get_default_optimizer_params
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from softpool_det.config import DEFAULT_MAX_PIXELS
from softpool_det.datasets.json_files import data_sets_of
from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.layers.learning import weight_decay_overrides
from softpool_det.training.amp_trainer import PRECISIONS, StepTrainer
from softpool_det.training.annotation_checks import check_training_annotations
from softpool_det.training.averaging import AveragedWeights
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.choosing import BestCheckpoint, StoppedEarly, evaluation_hooks
from softpool_det.training.evaluator import Evaluator
from softpool_det.training.event_writers import build_event_writers
from softpool_det.training.guarded_mapper import EvaluationBatches, GuardedMapper
from softpool_det.training.hooks import ProgressLine, TrainingClock
from softpool_det.training.loaders import guarded_train_loader
from softpool_det.training.run_errors import save_bad_batch, setting_up
from softpool_det.training.signals import StopOnSignal, at_once, stop_if_received
from softpool_det.training.state_hooks import (
    LeftOut,
    LossNormalizer,
    Randomness,
    share_loss_normalizer,
)
from softpool_det.training.train_loader import TrainLoader
from softpool_det.training.trainer import distribute, insert_stop
from softpool_det.training.workers import with_lasting_workers

logger = logging.getLogger(__name__)


def evaluate_lazy(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate `model` with `cfg.dataloader.{test,evaluator}`; returns {"bbox": {"AP": ...}}."""
    if OmegaConf.select(cfg, "dataloader.test.dataset.names") == []:
        return {}
    options = _arguments(cfg.dataloader.test)
    options["mapper"] = GuardedMapper(options["mapper"], _max_pixels(cfg))
    loader = _target(cfg.dataloader.test)(**options)
    if isinstance(loader, DataLoader) and loader.batch_size:
        loader = with_lasting_workers(loader)
    batches = EvaluationBatches(loader, before_batch=stop_if_received)
    results = inference_on_dataset(model, batches, build_evaluator(cfg.dataloader.evaluator))
    print_csv_format(results)
    return results


def build_evaluator(call: Any) -> Any:
    """Build `cfg.dataloader.evaluator`, with our evaluator for Detectron2's `COCOEvaluator`."""
    if isinstance(call, ListConfig):
        return [build_evaluator(each) for each in call]
    if isinstance(call, DictConfig) and "_target_" in call and _target(call) is COCOEvaluator:
        return Evaluator(**_arguments(call))
    return instantiate(call)


def evaluates_masks(cfg: DictConfig) -> bool:
    """Return the LazyConfig's `MODEL.MASK_ON`, of Detectron2's R-CNNs."""
    return OmegaConf.select(cfg, "model.roi_heads.mask_head", default=None) is not None


def allows_other_stem_pool(cfg: DictConfig) -> bool:
    """Return `MODEL.ALLOW_OTHER_STEM_POOL`, which Detectron2's own LazyConfigs lack."""
    return bool(_option(cfg, "allow_other_stem_pool", False))


def train_lazy(
    cfg: DictConfig, resume: bool, progress: str = "", trust_pickle: bool = False
) -> tuple[dict, float, Skipped]:
    """Train `cfg.model`.

    Args:
        cfg: a LazyConfig with model, optimizer, lr_multiplier, dataloader and train, as in
            Detectron2's own. Of YAML's keys `train` has skip_corrupt, max_pixels, amp.dtype,
            share_loss_normalizer, accumulate_steps, ema_decay, best_metric, patience and writers.
        resume: continue from the newest undamaged checkpoint in `cfg.train.output_dir`, if any.
        progress: label of a progress line on stderr; "" for none.
        trust_pickle: start from a `.pkl` that is not of Detectron2's model zoo, too.

    Returns:
        The results of the last evaluation, the seconds spent in training steps, and what was left
        out.
    """
    skipped, clock = Skipped(), TrainingClock()
    results: dict = {}
    with setting_up(), at_once():
        trainer, averaged = _build_trainer(cfg, skipped)
        evaluated = trainer.model if averaged is None else averaged.average
        checkpointer = SafeCheckpointer(
            evaluated,
            cfg.train.output_dir,
            trust_pickle=trust_pickle,
            allow_other_stem_pool=allows_other_stem_pool(cfg),
            trainer=trainer,
        )
        validation = data_sets_of(cfg, "validation")
        if len(validation) > 1:
            raise DataError(
                f"datasets.validation names {len(validation)} data sets; a LazyConfig's evaluator "
                "takes one"
            )

        def evaluate() -> dict:
            results.update(evaluate_lazy(_tested_on(cfg, validation), evaluated))
            return results

        found = _build_hooks(cfg, trainer, checkpointer, clock, progress, evaluate)
        trainer.register_hooks([*filter(None, [averaged]), *found])
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if checkpointer.is_resumed else 0
    with contextlib.suppress(StoppedEarly):
        trainer.train(start, cfg.train.max_iter)
    best = next((hook for hook in found if isinstance(hook, BestCheckpoint)), None)
    if best is not None:
        best.restore()
    if best is not None or validation:
        results = evaluate_lazy(cfg, evaluated)
    return results, clock.seconds, skipped


def _tested_on(cfg: DictConfig, validation: list[str]) -> DictConfig:
    """Return `cfg` with this data set as the test set; without one, `cfg` itself."""
    if not validation:
        return cfg
    cfg = cfg.copy()
    # The evaluator takes its name from there.
    OmegaConf.update(cfg, "dataloader.test.dataset.names", validation[0])
    return cfg


def _build_trainer(cfg: DictConfig, skipped: Skipped) -> tuple[StepTrainer, AveragedWeights | None]:
    model = instantiate(cfg.model).to(cfg.train.device)
    optimizer = _build_optimizer(cfg.optimizer, model)
    loader = _build_train_loader(cfg, skipped)
    decay, steps = _option(cfg, "ema_decay", 0.0), _option(cfg, "accumulate_steps", 1)
    # This gives all processes the first one's weights, which the average starts from.
    distributed = distribute(model, cfg.train.device, **cfg.train.ddp)
    averaged = AveragedWeights(model, decay) if decay else None
    shares = _option(cfg, "share_loss_normalizer", True)
    correction = share_loss_normalizer(model, steps) if shares else None
    precision = _option(cfg, "amp.dtype", "float16") if cfg.train.amp.enabled else None
    trainer = StepTrainer(
        distributed,
        loader,
        optimizer,
        precision=PRECISIONS[precision] if precision else None,
        on_bad_loss=functools.partial(save_bad_batch, Path(cfg.train.output_dir)),
        accumulate=steps,
        correction=correction,
    )
    return trainer, averaged


def _build_optimizer(call: DictConfig, model: nn.Module) -> Any:
    """Build the optimizer, without weight decay on learned temperatures.

    Where the config overrides that, or makes the groups of parameters by a function of its own, it
    has the last word.
    """
    params = call.params
    params.model = model
    if _target(params) is get_default_optimizer_params:
        for name, values in weight_decay_overrides(model).items():
            given = OmegaConf.select(params, f"overrides.{name}", default={})
            OmegaConf.update(params, f"overrides.{name}", {**values, **given}, force_add=True)
    return instantiate(call)


def _build_hooks(
    cfg: DictConfig,
    trainer: StepTrainer,
    checkpointer: SafeCheckpointer,
    clock: TrainingClock,
    progress: str,
    evaluate: Any,
) -> list[HookBase]:
    found = [clock, LossNormalizer(trainer.model)]
    if isinstance(trainer.data_loader, TrainLoader):
        found += [Randomness(trainer.data_loader), LeftOut(trainer.data_loader.skipped)]
    found += [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
    ]
    if comm.is_main_process():
        found.append(hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer))
    period = cfg.train.eval_period
    found += evaluation_hooks(
        hooks.EvalHook(period, evaluate),
        period,
        checkpointer,
        _option(cfg, "best_metric", ""),
        _option(cfg, "patience", 0),
        data_sets_of(cfg, "validation") or data_sets_of(cfg, "test"),
    )
    if comm.is_main_process():
        writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
        writers += build_event_writers(_option(cfg, "writers", ()), Path(cfg.train.output_dir))
        if progress:
            writers.append(ProgressLine(progress, cfg.train.max_iter))
        found.append(hooks.PeriodicWriter(writers, period=cfg.train.log_period))
    return insert_stop(found, StopOnSignal(checkpointer))


def _build_train_loader(cfg: DictConfig, skipped: Skipped) -> Any:
    call = copy.deepcopy(cfg.dataloader.train)
    if _target(call) is not build_detection_train_loader:
        logger.warning(
            "dataloader.train is not Detectron2's: a resumed run starts it over, and an "
            "unreadable image ends the run"
        )
        return instantiate(call)
    skip = bool(_option(cfg, "skip_corrupt", False))
    names = OmegaConf.select(call, "dataset.names")
    if names is not None:
        several = list(names) if isinstance(names, ListConfig) else [names]
        folder = Path(cfg.train.output_dir)
        call.dataset.names = [
            check_training_annotations(name, skip, skipped, folder) for name in several
        ]
    seed = _option(cfg, "seed", -1)
    return guarded_train_loader(
        **_arguments(call),
        max_pixels=_max_pixels(cfg),
        seed=None if seed < 0 else seed,
        skip=skip,
        skipped=skipped,
        accumulate=_option(cfg, "accumulate_steps", 1),
    )


def _target(call: DictConfig) -> Any:
    target = call["_target_"]
    return locate(target) if isinstance(target, str) else target


def _arguments(call: DictConfig) -> dict[str, Any]:
    return {str(key): instantiate(value) for key, value in call.items() if key != "_target_"}


def _option(cfg: DictConfig, name: str, default: Any) -> Any:
    """Return a key of `train` that Detectron2's own configs lack."""
    return OmegaConf.select(cfg, f"train.{name}", default=default)


def _max_pixels(cfg: DictConfig) -> int:
    return int(_option(cfg, "max_pixels", DEFAULT_MAX_PIXELS))
