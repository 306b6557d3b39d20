"""Hooks that make an interrupted or distributed run equal to one that was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils import comm
from torch import nn

from softpool_det.io.data_errors import Skipped
from softpool_det.training.randomness import seed_all, seed_of
from softpool_det.training.train_loader import TrainLoader

NORMALIZER = "loss_normalizer"


class Randomness(HookBase):
    """Seeds every step by its iteration, and lets the loader continue where the run does.

    Args:
        loader: of the run. Its seed is the run's, saved with it: where none was asked for, too.
    """

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader

    def before_train(self) -> None:
        self.loader.start = self.trainer.start_iter

    def before_step(self) -> None:
        # Which proposals and anchors are taken is drawn in the model. Plus one, for 0 may be an
        # image's number.
        seed_all(seed_of(self.loader.seed, self.trainer.iter, comm.get_rank(), 1))

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.loader.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.seed = state["seed"]


class LossNormalizer(HookBase):
    """Saves what RetinaNet and FCOS divide their losses by, an average that no buffer holds.

    Args:
        model: a detector; nothing is done for other kinds.
    """

    def __init__(self, model: nn.Module) -> None:
        self.detector = next((m for m in model.modules() if isinstance(m, DenseDetector)), None)

    def state_dict(self) -> dict[str, float]:
        value = getattr(self.detector, NORMALIZER, None)
        return {} if value is None else {NORMALIZER: value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if self.detector is not None:
            setattr(self.detector, NORMALIZER, state[NORMALIZER])


class LeftOut(HookBase):
    """Saves what was left out of the training so far, so that the list at the end is of all of it.

    Args:
        skipped: of this process; the first one's is what a checkpoint holds.
    """

    def __init__(self, skipped: Skipped) -> None:
        self.skipped = skipped

    def state_dict(self) -> dict[str, str]:
        return dict(self.skipped.reasons)

    def load_state_dict(self, state: dict[str, str]) -> None:
        self.skipped.reasons.update(state)


def share_loss_normalizer(model: nn.Module, batches: int = 1) -> Callable[[], float] | None:
    """Let RetinaNet and FCOS divide by the foreground anchors of a whole step.

    Those are the anchors of all processes and all batches. Detectron2 counts those of each batch of
    each process by itself. Then the same images give another loss when processes share them.

    Args:
        model: a detector, before or after DistributedDataParallel.
        batches: of a step, in each process.

    Returns:
        With several batches, what :class:`StepTrainer` takes as its `correction`.
    """
    size = comm.get_world_size()
    for detector in model.modules():
        if isinstance(detector, DenseDetector) and (size > 1 or batches > 1):
            detector._ema_update = shared = _Shared(detector, size, batches)
            return shared.correction if batches > 1 else None
    return None


class _Shared:
    def __init__(self, detector: DenseDetector, size: int, batches: int) -> None:
        self.detector, self.update = detector, detector._ema_update
        self.size, self.batches = size, batches
        self.total = 0.0

    def __call__(self, name: str, value: float, initial: float) -> float:
        if self.batches == 1:
            return self._updated(name, value, initial)
        # What the step has is known after its last batch.
        self.total += value
        self.initial, self.provisional = initial, getattr(self.detector, name, initial)
        return self.provisional

    def correction(self) -> float:
        """From the provisional normalizer of each batch to that of the step."""
        total, self.total = self.total, 0.0
        return self.batches * self.provisional / self._updated(NORMALIZER, total, self.initial)

    def _updated(self, name: str, value: float, initial: float) -> float:
        total = torch.tensor(float(value), dtype=torch.float64)
        if self.size > 1:
            total = total.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(total)
        # DistributedDataParallel takes the mean over processes, where the sum is wanted.
        return self.update(name, total.item(), initial) / self.size
