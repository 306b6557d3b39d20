"""One run of tools/train_net.py: set up, train or evaluate, and record the result."""

from __future__ import annotations

import argparse
from pathlib import Path

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_setup
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from softpool_det.config import load_config
from softpool_det.data import register_datasets
from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.engine.files import write_json
from softpool_det.engine.hooks import peak_memory_bytes
from softpool_det.engine.lazy import allows_other_stem_pool, evaluate_lazy, train_lazy
from softpool_det.engine.setup import check_inputs
from softpool_det.engine.trainer import Trainer

RESULT_FILE = "result.json"
EVALUATION_FILE = "evaluation.json"


def run(args: argparse.Namespace) -> dict:
    """Train or evaluate as tools/train_net.py's arguments say.

    When all is done, writes `result.json` into the output folder, or `evaluation.json` where
    nothing was trained: metrics in percent as Detectron2 reports them, seconds of training, peak
    memory in bytes, and the device.

    Args:
        args: `config_file`, `opts`, `eval_only`, `resume`, `progress`, `trust_pickle` and
            `trust_lazy_config`, besides what `detectron2.engine.default_setup` reads.

    Returns:
        The metrics: {"bbox": {"AP": ..., "AP50": ..., ...}, "segm": {...}}.
    """
    register_datasets()
    cfg = load_config(args.config_file, args.opts, args.trust_lazy_config)
    runner = _run_yaml if isinstance(cfg, CfgNode) else _run_lazy
    return runner(cfg, args)


def _run_yaml(cfg: CfgNode, args: argparse.Namespace) -> dict:
    training = () if args.eval_only else cfg.DATASETS.TRAIN
    check_inputs((*training, *cfg.DATASETS.TEST), cfg.MODEL.WEIGHTS)
    default_setup(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        checkpointer = SafeCheckpointer(
            model,
            save_dir=cfg.OUTPUT_DIR,
            trust_pickle=args.trust_pickle,
            allow_other_stem_pool=cfg.MODEL.ALLOW_OTHER_STEM_POOL,
        )
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        metrics, seconds = Trainer.test(cfg, model), None
    else:
        trainer = Trainer(cfg, args.progress, args.trust_pickle)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
        metrics, seconds = getattr(trainer, "_last_eval_results", {}), trainer.clock.seconds
    _write_result(cfg.OUTPUT_DIR, metrics, seconds, cfg.MODEL.DEVICE)
    return metrics


def _run_lazy(cfg: DictConfig, args: argparse.Namespace) -> dict:
    # LazyConfig names its data sets wherever its loaders take them.
    names = [
        OmegaConf.select(cfg, f"dataloader.{part}.dataset.names") for part in ("train", "test")
    ]
    wanted = names[1:] if args.eval_only else names
    weights = cfg.train.init_checkpoint
    check_inputs([name for name in wanted if name], weights, "train.init_checkpoint")
    default_setup(cfg, args)
    if args.eval_only:
        model = instantiate(cfg.model).to(cfg.train.device)
        checkpointer = SafeCheckpointer(
            model,
            save_dir=cfg.train.output_dir,
            trust_pickle=args.trust_pickle,
            allow_other_stem_pool=allows_other_stem_pool(cfg),
        )
        checkpointer.resume_or_load(weights, resume=args.resume)
        metrics, seconds = evaluate_lazy(cfg, model), None
    else:
        metrics, seconds = train_lazy(cfg, args.resume, args.progress, args.trust_pickle)
    _write_result(cfg.train.output_dir, metrics, seconds, cfg.train.device)
    return metrics


def _write_result(folder: str, metrics: dict, seconds: float | None, device: str) -> None:
    if not comm.is_main_process():
        return
    name = EVALUATION_FILE if seconds is None else RESULT_FILE
    result = {
        "metrics": metrics,
        "train_seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(device),
        "device": device,
    }
    write_json(Path(folder) / name, result)
