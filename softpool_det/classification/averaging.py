"""An exponential moving average of a model, with torch's own AveragedModel."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage:
    """The average of a model's weights and buffers over the iterations of its training.

    Args:
        model: the model that learns.
        decay: part of the average that an update leaves, 0 to 1.
        period: iterations from one update to the next.
        start: up to so many iterations the average is a copy of the model.
    """

    def __init__(self, model: nn.Module, decay: float, period: int, start: int) -> None:
        self.model, self.period, self.start = model, period, start
        average = get_ema_multi_avg_fn(decay)
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        return self.averaged.module

    def update(self, iterations: int) -> None:
        """Take in the model as it is after so many iterations."""
        if iterations % self.period:
            return
        if iterations <= self.start:
            # The first model that an AveragedModel is given becomes the average.
            self.averaged.n_averaged.zero_()
        self.averaged.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state)
