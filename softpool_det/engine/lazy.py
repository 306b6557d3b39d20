"""Training and evaluation from a LazyConfig, whose objects build themselves."""

from __future__ import annotations

from detectron2.config import instantiate
from detectron2.engine import AMPTrainer, SimpleTrainer, create_ddp_model, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.engine.hooks import ProgressLine, TrainingClock


def evaluate_lazy(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate `model` with `cfg.dataloader.{test,evaluator}`; returns {"bbox": {"AP": ...}}."""
    loader = instantiate(cfg.dataloader.test)
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    print_csv_format(results)
    return results


def allows_other_stem_pool(cfg: DictConfig) -> bool:
    """The LazyConfig's `MODEL.ALLOW_OTHER_STEM_POOL`, which Detectron2's own configs lack."""
    return bool(OmegaConf.select(cfg, "train.allow_other_stem_pool", default=False))


def train_lazy(
    cfg: DictConfig, resume: bool, progress: str = "", trust_pickle: bool = False
) -> tuple[dict, float]:
    """Train `cfg.model`.

    Args:
        cfg: a LazyConfig with model, optimizer, lr_multiplier, dataloader and train, as in
            Detectron2's own.
        resume: go on from the last checkpoint in `cfg.train.output_dir`, if there is one.
        progress: label of a progress line on stderr; "" for none.
        trust_pickle: start from a `.pkl` that is not of Detectron2's model zoo, too.

    Returns:
        The results of the last evaluation, and the seconds spent in training steps.
    """
    model = instantiate(cfg.model).to(cfg.train.device)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    train_loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer_class = AMPTrainer if cfg.train.amp.enabled else SimpleTrainer
    trainer = trainer_class(model, train_loader, optimizer)
    checkpointer = SafeCheckpointer(
        model,
        cfg.train.output_dir,
        trust_pickle=trust_pickle,
        allow_other_stem_pool=allows_other_stem_pool(cfg),
        trainer=trainer,
    )
    clock = TrainingClock()
    results: dict = {}

    def evaluate() -> dict:
        results.update(evaluate_lazy(cfg, model))
        return results

    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
    if progress:
        writers.append(ProgressLine(progress, cfg.train.max_iter))
    is_main = comm.is_main_process()
    trainer.register_hooks(
        [
            clock,
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer) if is_main else None,
            hooks.EvalHook(cfg.train.eval_period, evaluate),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if is_main else None,
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    resumed = resume and checkpointer.has_checkpoint()
    trainer.train(trainer.iter + 1 if resumed else 0, cfg.train.max_iter)
    return results, clock.seconds
