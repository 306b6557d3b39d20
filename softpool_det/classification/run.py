"""One run of tools/train_classifier.py: train or evaluate, and record the result."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from softpool_det.classification.build import (
    build_model,
    build_test_dataset,
    build_test_loader,
    build_train_dataset,
    build_train_loader,
    build_training,
)
from softpool_det.classification.checkpoint import (
    CHECKPOINT_FILE,
    PREVIOUS_FILE,
    load_checkpoint,
    save_checkpoint,
)
from softpool_det.classification.config import identity, load_config
from softpool_det.classification.datasets import LabelledImages
from softpool_det.classification.evaluation import predict
from softpool_det.classification.predictions import Predictions
from softpool_det.classification.training import Training
from softpool_det.classification.weights import load_weights, metadata
from softpool_det.io.atomic import claim, write_json
from softpool_det.training.hooks import peak_memory_bytes
from softpool_det.training.process_group import process_group
from softpool_det.training.signals import Interrupted, any_received, listening
from softpool_det.weights import save_weights

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model_final.safetensors"
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.npz"
EVALUATION_FILE = "evaluation.json"
EVALUATION_PREDICTIONS_FILE = "evaluation_predictions.npz"
# Iterations after which several processes look whether one got a signal.
STOP_PERIOD = 10

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict:
    """Train or evaluate as tools/train_classifier.py's arguments say.

    Args:
        args: `config_file`, `opts`, `eval_only` and `resume`.

    Returns:
        What `result.json` or, where nothing is trained, `evaluation.json` holds: "metrics" (top1
        and top5 in percent), "device", "processes" and "peak_memory_bytes", and of a training its
        "train_seconds", "images_per_second" (of all processes), "iterations" and "history".

    Raises:
        FileExistsError: the output folder holds a run of another config.
        FloatingPointError: the loss is no finite number.
        Interrupted: SIGTERM or SIGUSR1 came; a checkpoint of the training is saved.
        FileNotFoundError, ValueError: data, weights or a key's value are not what they should be.
    """
    cfg = load_config(args.config_file, args.opts)
    with listening(), process_group(cfg.MODEL.DEVICE) as device:
        cfg.defrost()
        cfg.MODEL.DEVICE = device
        cfg.freeze()
        setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="softpool_det")
        return evaluate_only(cfg) if args.eval_only else train(cfg, args.resume)


def evaluate_only(cfg: CfgNode) -> dict:
    """Evaluate `MODEL.WEIGHTS` with the config's own stem pooling."""
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("MODEL.WEIGHTS is empty: name the .safetensors to evaluate")
    folder = Path(cfg.OUTPUT_DIR)
    predictions = evaluate_weights(cfg)
    result = {"metrics": predictions.accuracies(), **_machine(cfg)}
    if comm.is_main_process():
        predictions.save(folder / EVALUATION_PREDICTIONS_FILE)
        write_json(folder / EVALUATION_FILE, result)
    logger.info("%s", result["metrics"])
    return result


def evaluate_weights(cfg: CfgNode) -> Predictions:
    """Predictions of `MODEL.WEIGHTS` for `DATASETS.TEST`; raises what `load_weights` does."""
    dataset = build_test_dataset(cfg)
    model = build_model(cfg, len(dataset.classes))
    load_weights(model, cfg)
    return _predict(cfg, model, dataset)


def _predict(cfg: CfgNode, model: nn.Module, dataset: LabelledImages) -> Predictions:
    loader = build_test_loader(cfg, dataset)
    return predict(model, loader, dataset.targets, cfg.MODEL.DEVICE)


def train(cfg: CfgNode, resume: bool) -> dict:
    """Train, evaluate and write weights, or take the result that is there with `resume`."""
    folder = Path(cfg.OUTPUT_DIR)
    _claim_folder(folder, cfg, resume)
    if resume and (folder / RESULT_FILE).is_file():
        logger.info("%s is there already", folder / RESULT_FILE)
        return json.loads((folder / RESULT_FILE).read_text())
    test_set = build_test_dataset(cfg)
    training = start(cfg, test_set)
    if resume:
        _go_on(training, folder, cfg.MODEL.DEVICE)
    final = _evaluate_epoch(cfg, training, test_set) if training.awaits_evaluation else None

    def save() -> None:
        if comm.is_main_process():
            save_checkpoint(folder, training.state_dict())

    def after_iteration(ends_epoch: bool) -> None:
        nonlocal final
        iteration = training.progress.iteration
        try:
            _stop_if_asked(iteration)
            if ends_epoch:
                final = _evaluate_epoch(cfg, training, test_set)
        except Interrupted:
            save()
            logger.info("saved after iteration %d; --resume continues from there", iteration)
            raise
        if ends_epoch or iteration % cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            save()

    training.run(after_iteration)
    # A run that was interrupted behind its last iteration is not evaluated yet.
    final = final or _predict(cfg, training.result, test_set)
    return _finish(cfg, training, final, len(test_set.classes))


def _go_on(training: Training, folder: Path, device: str) -> None:
    state = load_checkpoint(folder, device)
    if state is not None:
        training.load_state_dict(state)
        logger.info("going on from iteration %d", training.progress.iteration)


def _stop_if_asked(iteration: int) -> None:
    # Processes have to wait for their GPUs to ask each other.
    if (comm.get_world_size() == 1 or iteration % STOP_PERIOD == 0) and any_received():
        raise Interrupted


def _claim_folder(folder: Path, cfg: CfgNode, resume: bool) -> None:
    if comm.is_main_process():
        path = folder / CONFIG_FILE
        if not resume:
            # A new run in its place: what is left of an old one would be taken for this one's.
            for name in (CONFIG_FILE, CHECKPOINT_FILE, PREVIOUS_FILE, RESULT_FILE):
                (folder / name).unlink(missing_ok=True)
        claim(path, identity(cfg))
    comm.synchronize()


def start(cfg: CfgNode, test_set: LabelledImages) -> Training:
    """A run before its first iteration."""
    train_set = build_train_dataset(cfg)
    classes = train_set.classes
    if classes != test_set.classes:
        raise ValueError(
            f"DATASETS.TRAIN and DATASETS.TEST must have the same classes: {cfg.DATASETS.TRAIN} "
            f"has {len(classes)}, {cfg.DATASETS.TEST} {len(test_set.classes)}"
        )
    loader = build_train_loader(cfg, train_set)
    model = build_model(cfg, len(classes))
    if cfg.MODEL.WEIGHTS:
        load_weights(model, cfg)
    return build_training(cfg, model, loader, len(classes))


def _evaluate_epoch(
    cfg: CfgNode, training: Training, test_set: LabelledImages
) -> Predictions | None:
    epoch = training.progress.iteration // training.loader.iterations
    period = cfg.TEST.EVAL_EPOCHS
    if epoch != training.epochs and not (period and epoch % period == 0):
        return None
    predictions = _predict(cfg, training.result, test_set)
    metrics = predictions.accuracies()
    training.progress.history.append({"epoch": epoch, **metrics})
    logger.info("epoch %d  top-1 %.2f  top-5 %.2f", epoch, metrics["top1"], metrics["top5"])
    return predictions


def _finish(cfg: CfgNode, training: Training, predictions: Predictions, num_classes: int) -> dict:
    folder = Path(cfg.OUTPUT_DIR)
    result = {
        "metrics": predictions.accuracies(),
        "train_seconds": training.progress.seconds,
        "images_per_second": training.images_per_second,
        "iterations": training.progress.iteration,
        "history": training.progress.history,
        **_machine(cfg),
    }
    if comm.is_main_process():
        state = training.result.state_dict()
        save_weights(folder / WEIGHTS_FILE, state, metadata(cfg, num_classes))
        predictions.save(folder / PREDICTIONS_FILE)
        # Last: it says that the others are there.
        write_json(folder / RESULT_FILE, result)
    logger.info("%s", {key: result[key] for key in ("metrics", "train_seconds")})
    return result


def _machine(cfg: CfgNode) -> dict:
    device = cfg.MODEL.DEVICE
    return {
        "device": torch.device(device).type,
        "processes": comm.get_world_size(),
        "peak_memory_bytes": peak_memory_bytes(device),
    }
