"""Lightning's checkpoints: atomic, without code, one kept for damage, and one for a signal."""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from softpool_det.io.archives import find_damage, first_whole, save_archive
from softpool_det.training.signals import SIGNALS, Interrupted, any_received
from softpool_det.weights.entries import check_states
from softpool_det.weights.pickles import reason_of

# The newest, and the one before it.
FILES = ("checkpoint.ckpt", "checkpoint_previous.ckpt")
# Steps after which several processes look whether one got a signal.
STOP_PERIOD = 10

logger = logging.getLogger(__name__)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads tensors and plain values alone."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        path = Path(path)
        # ModelCheckpoint, a callback that a config may name, writes others.
        if path.name == FILES[0] and path.is_file() and find_damage(path) is None:
            os.replace(path, path.with_name(FILES[1]))
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
    return first_whole(filter(Path.is_file, (folder / name for name in FILES)), logger)


class Checkpoints(Checkpoint):
    """Saves after each epoch, and after the step in which any process got a signal; then ends.

    Lightning calls it after all other callbacks. An evaluation is finished first.

    Args:
        folder: where the checkpoints go.
        begin: called before the first step, when nothing can be mistyped any more.
    """

    def __init__(self, folder: Path, begin: Callable[[], None]) -> None:
        self.path, self.begin = folder / FILES[0], begin
        # Those of `listening`, which Lightning's own would hide.
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def on_train_start(self, *_: Any) -> None:
        self.begin()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        # Processes have to wait for their GPUs to ask each other. An epoch's last step is followed
        # by its evaluation.
        is_due = trainer.world_size == 1 or args[-1] % STOP_PERIOD == 0
        if is_due and not trainer.is_last_batch and any_received():
            self._save(trainer, ends=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._save(trainer, ends=any_received())

    def _save(self, trainer: pl.Trainer, ends: bool) -> None:
        trainer.save_checkpoint(self.path)
        if ends:
            logger.info("saved after step %d; --resume continues from there", trainer.global_step)
            raise Interrupted
