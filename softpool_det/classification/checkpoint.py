"""The checkpoint of a classifier's training, and the one before it."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from softpool_det.io.archives import find_damage, save_archive
from softpool_det.weights.entries import check_states
from softpool_det.weights.pickles import reason_of

CHECKPOINT_FILE = "checkpoint.pth"
# For where the newest one is found damaged.
PREVIOUS_FILE = "checkpoint_previous.pth"

logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the newest checkpoint; the newest until now, if whole, is the previous one.

    Raises:
        OSError: it cannot be written; the one before is there.
    """
    path = folder / CHECKPOINT_FILE
    if path.is_file() and find_damage(path) is None:
        os.replace(path, folder / PREVIOUS_FILE)
    save_archive(path, state)


def load_checkpoint(folder: Path, device: str) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None; a damaged one is named and passed over.

    Raises:
        ValueError: it holds more than tensors and plain values, of which nothing is run; or a
            tensor has NaN or infinite values, or variances below 0.
    """
    for path in (folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE):
        damage = find_damage(path) if path.is_file() else "it is not there"
        if damage is None:
            return _read(path, device)
        if path.is_file():
            logger.warning("passed over: %s: %s", path, damage)
    return None


def _read(path: Path, device: str) -> dict[str, Any]:
    try:
        state = torch.load(path, device, weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds more than tensors and plain values; nothing of it was run. Remove it "
            f"to begin anew ({reason_of(error)})"
        ) from error
    check_states(state, path)
    return state
