"""What makes a run that was interrupted, or shared out, the same as one that was not."""

from __future__ import annotations

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
    """Seeds every step by its iteration, and lets the loader go on where the run does.

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


def share_loss_normalizer(model: nn.Module) -> None:
    """Let RetinaNet and FCOS divide by the foreground anchors of all processes together.

    Detectron2 counts those of each process alone. Then the same images give another loss when they
    are shared out among more processes.

    Args:
        model: a detector, before or after DistributedDataParallel.
    """
    size = comm.get_world_size()
    for detector in model.modules():
        if size > 1 and isinstance(detector, DenseDetector):
            detector._ema_update = _Shared(detector._ema_update, size)


class _Shared:
    def __init__(self, update: Any, size: int) -> None:
        self.update, self.size = update, size

    def __call__(self, name: str, value: float, *args: Any) -> float:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(float(value), dtype=torch.float64, device=device)
        dist.all_reduce(total)
        # DistributedDataParallel takes the mean over processes, where the sum is wanted.
        return self.update(name, total.item(), *args) / self.size
