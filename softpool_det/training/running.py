"""One run of tools/train_net.py: set up, train or evaluate, and record the result."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf

from softpool_det.config import load_config
from softpool_det.datasets import json_files, register_datasets
from softpool_det.datasets.limiting import limit_images, limit_remarks
from softpool_det.io.atomic import write_json
from softpool_det.io.data_errors import DataError
from softpool_det.io.errors import error_text
from softpool_det.training.annotation_checks import check_evaluation_annotations
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.choosing import choice_remarks
from softpool_det.training.hooks import peak_memory_bytes
from softpool_det.training.lazy import (
    allows_other_stem_pool,
    evaluate_lazy,
    evaluates_masks,
    train_lazy,
)
from softpool_det.training.preflight import check_inputs, check_writable
from softpool_det.training.process_group import process_group
from softpool_det.training.run_errors import setting_up, tell_once, write_skipped
from softpool_det.training.signals import at_once, listening
from softpool_det.training.trainer import Trainer

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"
EVALUATION_FILE = "evaluation.json"


def run(args: argparse.Namespace) -> dict:
    """Train or evaluate as tools/train_net.py's arguments say, alone or as torchrun's process.

    When all is done, writes `result.json` into the output folder, or `evaluation.json` where
    nothing was trained: metrics in percent as Detectron2 reports them, seconds of training, peak
    memory in bytes, the device, and remarks on the metrics, if there are any.

    Args:
        args: `config_file`, `opts`, `eval_only`, `resume`, `progress`, `trust_pickle` and
            `trust_lazy_config`, and what `detectron2.engine.default_setup` reads.

    Returns:
        The metrics: {"bbox": {"AP": ..., "AP50": ..., ...}, "segm": {...}}.

    Raises:
        DataError: a config or data that cannot be used; one line.
        FloatingPointError: a loss is not finite; names images and the saved batch.
        Interrupted: SIGTERM, SIGINT or SIGUSR1 came; a checkpoint is saved.
        OSError, ValueError: files or weights are not what they should be.
    """
    tell_once()
    register_datasets()
    try:
        cfg = load_config(args.config_file, args.opts, args.trust_lazy_config)
        cfg = json_files.use_json_files(cfg, training=not args.eval_only)
        cfg = limit_images(cfg, training=not args.eval_only)
    except (KeyError, ValueError) as error:
        raise DataError(error_text(error)) from error
    is_yaml = isinstance(cfg, CfgNode)
    with listening(), process_group(cfg.MODEL.DEVICE if is_yaml else cfg.train.device):
        return _run_yaml(cfg, args) if is_yaml else _run_lazy(cfg, args)


def _run_yaml(cfg: CfgNode, args: argparse.Namespace) -> dict:
    training, validation, test = (json_files.data_sets_of(cfg, part) for part in json_files.PARTS)
    evaluated = test if args.eval_only else [*test, *validation]
    remarks = limit_remarks(cfg)
    with setting_up(), at_once():
        check_inputs(_data_of(args, training, evaluated), cfg.MODEL.WEIGHTS)
        _check_evaluation(evaluated, cfg.OUTPUT_DIR, cfg.MODEL.MASK_ON)
        _set_up(cfg, args, cfg.OUTPUT_DIR)
        trainer = None
        if args.eval_only:
            model = Trainer.build_model(cfg)
            checkpointer = SafeCheckpointer(
                model,
                save_dir=cfg.OUTPUT_DIR,
                trust_pickle=args.trust_pickle,
                allow_other_stem_pool=cfg.MODEL.ALLOW_OTHER_STEM_POOL,
                complete=True,
            )
            checkpointer.load_to_evaluate(cfg.MODEL.WEIGHTS, args.resume)
        else:
            trainer = Trainer(cfg, args.progress, args.trust_pickle)
            trainer.resume_or_load(resume=args.resume)
    if trainer is None:
        metrics, seconds = Trainer.test(cfg, model), None
    else:
        trainer.train()
        metrics, seconds = getattr(trainer, "_last_eval_results", {}), trainer.clock.seconds
        write_skipped(trainer.skipped, Path(cfg.OUTPUT_DIR))
        remarks += choice_remarks(cfg.TEST.BEST_METRIC, validation, test)
    _write_result(cfg.OUTPUT_DIR, metrics, seconds, cfg.MODEL.DEVICE, remarks)
    return metrics


def _run_lazy(cfg: DictConfig, args: argparse.Namespace) -> dict:
    # LazyConfig names its data sets wherever its loaders take them.
    training, validation, test = (json_files.data_sets_of(cfg, part) for part in json_files.PARTS)
    evaluated = test if args.eval_only else [*test, *validation]
    weights, remarks = cfg.train.init_checkpoint, limit_remarks(cfg)
    with setting_up(), at_once():
        check_inputs(_data_of(args, training, evaluated), weights, "train.init_checkpoint")
        _check_evaluation(evaluated, cfg.train.output_dir, evaluates_masks(cfg))
        _set_up(cfg, args, cfg.train.output_dir)
    if args.eval_only:
        model = instantiate(cfg.model).to(cfg.train.device)
        checkpointer = SafeCheckpointer(
            model,
            save_dir=cfg.train.output_dir,
            trust_pickle=args.trust_pickle,
            allow_other_stem_pool=allows_other_stem_pool(cfg),
            complete=True,
        )
        with setting_up():
            checkpointer.load_to_evaluate(weights, args.resume)
        metrics, seconds = evaluate_lazy(cfg, model), None
    else:
        options = args.resume, args.progress, args.trust_pickle
        metrics, seconds, skipped = train_lazy(cfg, *options)
        write_skipped(skipped, Path(cfg.train.output_dir))
        metric = OmegaConf.select(cfg, "train.best_metric", default="")
        remarks += choice_remarks(metric, validation, test)
    _write_result(cfg.train.output_dir, metrics, seconds, cfg.train.device, remarks)
    return metrics


def _data_of(args: argparse.Namespace, training: list[str], evaluated: list[str]) -> list[str]:
    """List the data sets that a run needs."""
    if args.eval_only:
        return evaluated
    if not training:
        raise DataError(
            f"{args.config_file}: nothing to train on; name a data set (softpool-train --help)"
        )
    return training + evaluated


def _set_up(cfg: CfgNode | DictConfig, args: argparse.Namespace, folder: str) -> None:
    default_setup(cfg, args)
    setup_logger(folder, distributed_rank=comm.get_rank(), name="softpool_det")
    if line := json_files.summary(cfg, training=not args.eval_only):
        logger.info(line)
    for remark in [*limit_remarks(cfg), *json_files.class_remarks(cfg, args.opts)]:
        logger.warning(remark)


def _check_evaluation(datasets: Iterable[str], folder: str, masks: bool = False) -> None:
    """Before the training, not after it: what its evaluation will need."""
    check_writable(folder)
    for name in datasets:
        check_evaluation_annotations(name, masks, Path(folder))


def _write_result(
    folder: str, metrics: dict, seconds: float | None, device: str, remarks: list[str]
) -> None:
    if not comm.is_main_process():
        return
    name = EVALUATION_FILE if seconds is None else RESULT_FILE
    result: dict[str, Any] = {
        "metrics": metrics,
        "train_seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(device),
        "device": device,
    }
    if remarks:
        result["remarks"] = remarks
        logger.warning("%s", " ".join(remarks))
    write_json(Path(folder) / name, result)
