"""One run: train, evaluate, record; checkpoints are atomic, without code, one kept for damage."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks, loggers
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from softpool_det.classification.config import Config, construct, identity
from softpool_det.classification.datasets import LabelledImages, open_split
from softpool_det.classification.module import Classifier
from softpool_det.classification.networks import build_network, load_weights, metadata
from softpool_det.io.archives import find_damage, first_whole, save_archive
from softpool_det.io.atomic import claim, write_json
from softpool_det.training.signals import SIGNALS, Interrupted, any_received, listening
from softpool_det.weights import save_weights
from softpool_det.weights.layouts import check_states
from softpool_det.weights.pickles import reason_of

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model_final.safetensors"
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.safetensors"
CHECKPOINT_FILES = ("checkpoint.ckpt", "checkpoint_previous.ckpt")  # the newest comes first
STOP_PERIOD = 10  # steps after which several processes look whether one got a signal

logger = logging.getLogger(__name__)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads tensors and plain values alone."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        path = Path(path)
        # ModelCheckpoint, a callback that a config may name, writes others.
        if path.name == CHECKPOINT_FILES[0] and path.is_file() and find_damage(path) is None:
            os.replace(path, path.with_name(CHECKPOINT_FILES[1]))
        save_archive(path, checkpoint)

    def load_checkpoint(self, path: Any, *_args: Any, **_options: Any) -> dict[str, Any]:
        try:
            checkpoint = torch.load(path, "cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            raise ValueError(
                f"{path} holds more than tensors and plain values; nothing of it was run. Remove "
                f"it to train from the start ({reason_of(error)})"
            ) from error
        # What callbacks note is infinite until there is a first evaluation.
        weights = [checkpoint.get(key, {}) for key in ("state_dict", "current_model_state")]
        for state in (*weights, *checkpoint.get("optimizer_states", [])):
            check_states(state, path)
        return checkpoint


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or None; log a damaged one and pass it over."""
    return first_whole(filter(Path.is_file, (folder / name for name in CHECKPOINT_FILES)), logger)


class Checkpoints(callbacks.Checkpoint):
    """Saves after each epoch, and after the step in which any process got a signal; then ends.

    Lightning calls it after all other callbacks. An evaluation is finished first.
    """

    def __init__(self, cfg: Config, resume: bool) -> None:
        self.cfg, self.resume, self.folder = cfg, resume, Path(cfg.output)
        # Those of `listening`, which Lightning's own would hide.
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}

    @rank_zero_only
    def begin(self) -> None:
        """Claim the folder, when nothing can be mistyped any more."""
        if not self.resume:
            # What is left of an old run would be taken for this one's. Its config goes last.
            results = (RESULT_FILE, WEIGHTS_FILE, PREDICTIONS_FILE)
            for name in (*results, *CHECKPOINT_FILES, CONFIG_FILE):
                (self.folder / name).unlink(missing_ok=True)
        claim(self.folder / CONFIG_FILE, identity(self.cfg))

    def on_train_start(self, *_: Any) -> None:
        self.begin()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        # Processes have to wait for their GPUs to ask each other. A checkpoint has no gradients, so
        # none is written between batches that accumulate, nor before an epoch's evaluation.
        period = STOP_PERIOD if trainer.world_size > 1 else 1
        is_due = (args[-1] + 1) % math.lcm(period, trainer.accumulate_grad_batches) == 0
        if is_due and not trainer.is_last_batch and any_received():
            self._save(trainer, ends=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._save(trainer, ends=any_received())

    def _save(self, trainer: pl.Trainer, ends: bool) -> None:
        trainer.save_checkpoint(self.folder / CHECKPOINT_FILES[0])
        if ends:
            logger.info("saved after step %d; --resume continues from there", trainer.global_step)
            raise Interrupted


def train(cfg: Config, resume: bool = False) -> dict[str, Any]:
    """Train, evaluate and write weights; with `resume`, from the last checkpoint on.

    Returns:
        What `result.json` holds: "metrics" (top1 and top5 in percent), "history" (after each
        epoch), "steps", "seconds" (of training and evaluations, over all interruptions),
        "processes" and "device". A finished run's is read with `resume`.

    Raises:
        FileExistsError: the output folder holds a run of another config.
        FloatingPointError: the loss is not finite.
        Interrupted: SIGTERM, SIGINT or SIGUSR1 came; a checkpoint is saved.
        FileNotFoundError, ValueError: data, weights or a key's value are not what they should be.
    """
    folder = Path(cfg.output)
    if resume and (folder / RESULT_FILE).is_file():
        claim(folder / CONFIG_FILE, identity(cfg))
        logger.info("%s is there already", folder / RESULT_FILE)
        return json.loads((folder / RESULT_FILE).read_text())
    if Path(cfg.weights).resolve() == (folder / WEIGHTS_FILE).resolve():
        raise ValueError(f"output must not be {folder}: a run replaces the weights in it")
    data = _open_data(cfg)
    torch.manual_seed(cfg.seed)
    num_classes = len(data[1].classes)
    network = build_network(cfg.network, num_classes, cfg.network_options, cfg.replace)
    if cfg.weights:
        load_weights(network, cfg, num_classes)
    module, timer = Classifier(cfg, network, *data), callbacks.Timer()
    with listening():
        checkpoints = Checkpoints(cfg, resume)
        try:
            trainer = _trainer(module, [timer, checkpoints])
            if not cfg.epochs or (resume and (folder / CONFIG_FILE).is_file()):
                checkpoints.begin()
            _fit(trainer, module, newest_checkpoint(folder) if resume else None)
        except (MisconfigurationException, AssertionError) as error:  # networks assert sizes
            raise ValueError(f"trainer, callbacks, logger or network: {error}") from error
        if trainer.is_global_zero:
            _record(cfg, module, trainer, timer)
        trainer.strategy.barrier()
        if any_received():  # in the evaluation at the end: other runs may follow
            raise Interrupted
    return json.loads((folder / RESULT_FILE).read_text())


def _open_data(cfg: Config) -> tuple[LabelledImages, LabelledImages]:
    if min(cfg.epochs, cfg.seed) < 0:
        raise ValueError(f"epochs and seed must be 0 or more, got {cfg.epochs} and {cfg.seed}")
    if cfg.network.startswith("video/") != bool(cfg.clips.frames):
        raise ValueError(
            f"network {cfg.network} does not fit the data {cfg.train_data} (clips.frames="
            f"{cfg.clips.frames}): networks of video/ take clips, all others images"
        )
    val_set = open_split(cfg, "val")
    train_set = open_split(cfg, "train") if cfg.epochs else val_set
    if train_set.classes != val_set.classes:
        found = ", ".join(sorted({*train_set.classes} ^ {*val_set.classes})[:5])
        raise ValueError(f"train_data and val_data must have equal classes; not both have {found}")
    return train_set, val_set


def _fit(trainer: pl.Trainer, module: Classifier, path: Path | None) -> None:
    if path is not None:
        logger.info("continuing from %s", path)
    if module.cfg.epochs:
        trainer.fit(module, ckpt_path=path, weights_only=True)
    if path is not None and module.predictions is None:
        # All was trained before; where weights are averaged, Lightning keeps the average here.
        newest = newest_checkpoint(path.parent)
        module.load_state_dict(WholeFiles().load_checkpoint(newest)["state_dict"])
    # Callbacks may change the weights after the last epoch's evaluation, to an average for example.
    trainer.validate(module, verbose=False)


def _trainer(module: Classifier, own: list[pl.Callback]) -> pl.Trainer:
    cfg, grid = module.cfg, module.grid
    # About numbers of workers and logged steps, and about loaders that EpochBatches makes good.
    warnings.simplefilter("ignore", PossibleUserWarning)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)", FutureWarning)
    options: dict[str, Any] = {
        # Of torchrun's; Lightning's own launcher, of trainer.devices, sets neither.
        "devices": int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        "num_nodes": int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        "max_epochs": grid.total_epochs if grid else cfg.epochs,
        # Wu's epochs differ in their numbers of batches.
        "reload_dataloaders_every_n_epochs": int(cfg.clips.multigrid == "wu"),
        "callbacks": [*(construct(callbacks, entry, "callbacks") for entry in cfg.callbacks), *own],
        "logger": construct(loggers, cfg.logger, "logger", save_dir=cfg.output),
        "plugins": [WholeFiles()],
        "enable_progress_bar": sys.stderr.isatty(),
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return construct(pl, {**cfg.trainer, "name": "Trainer"}, "trainer", **options)


def _record(cfg: Config, module: Classifier, trainer: pl.Trainer, timer: callbacks.Timer) -> None:
    folder, predictions = Path(cfg.output), module.predictions
    assert predictions is not None
    predictions.save(folder / PREDICTIONS_FILE)
    if cfg.epochs or not cfg.weights:
        known = metadata(cfg, module.network, len(module.val_set.classes))
        save_weights(folder / WEIGHTS_FILE, module.network.state_dict(), known)
    result = {
        "metrics": predictions.accuracies(),
        "history": module.history,
        "steps": trainer.global_step,
        "seconds": timer.time_elapsed(),
        "processes": trainer.world_size,
        "device": trainer.strategy.root_device.type,
    }
    # Last: it says that the others are there.
    write_json(folder / RESULT_FILE, result)
    for name in () if cfg.keep_checkpoints else CHECKPOINT_FILES:
        (folder / name).unlink(missing_ok=True)
    logger.info("top-1 %.2f  top-5 %.2f", *predictions.accuracies().values())
