"""An average of the weights over a training, which is what is evaluated and loaded."""

from __future__ import annotations

from typing import Any

from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from softpool_det.io.data_errors import DataError


class AveragedWeights(HookBase):
    """Keeps an exponential moving average of all weights and buffers of a model.

    A checkpointer of `average` saves the average as the checkpoint's model. What the optimizer
    continues with is in the state of this hook.

    Args:
        model: on its device; where there are several processes, one whose weights
            DistributedDataParallel has made the same in all, but not its wrapper.
        decay: above 0 and below 1; the average is one of about the last 1 / (1 - decay) iterations.

    Attributes:
        average: the model with averaged weights. Weights that it gets before the training begins
            are those that the training starts from.

    Raises:
        DataError: `decay` is out of its range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise DataError(f"SOLVER.EMA_DECAY must be 0, or above 0 and below 1, got {decay}")
        self.model = model
        # Buffers, too: the statistics of batch norms belong to the weights.
        self._averaged = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        self.average: nn.Module = self._averaged.module

    def before_train(self) -> None:
        if self._averaged.n_averaged == 0:
            self.model.load_state_dict(self.average.state_dict())

    def after_step(self) -> None:
        self._averaged.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "n_averaged": int(self._averaged.n_averaged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._averaged.n_averaged.fill_(state["n_averaged"])
