"""One training step: in the precision that was asked for, and with a loss that is a number."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from torch import nn

# Of SOLVER.AMP.DTYPE.
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class StepTrainer(SimpleTrainer):
    """Detectron2's SimpleTrainer and AMPTrainer in one, for any device.

    Args:
        model, data_loader, optimizer: as for Detectron2's.
        precision: of the forward under autocast; None for float32.
        on_bad_loss: called with the batch and the losses by name where one is no finite number;
            says, in what it returns, where to look.

    Raises:
        FloatingPointError: a loss is NaN or infinite; the weights are those of before the step.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        precision: torch.dtype | None = None,
        on_bad_loss: Callable[[int, list[dict[str, Any]], dict[str, float]], str] | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.precision, self.on_bad_loss = precision, on_bad_loss
        # Only float16 is short of exponent; without it the scaler hands everything on as it is.
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=precision == torch.float16
        )

    def run_step(self) -> None:
        with unfused(self.device_type):
            self._run_step()

    def _run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self.device_type, self.precision, enabled=self.precision is not None):
            losses = self.model(data)
        self._check(data, losses)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _check(self, data: list[dict[str, Any]], losses: dict[str, torch.Tensor]) -> None:
        """In each process by itself: only one of them has the batch that did it."""
        values = torch.stack([loss.detach() for loss in losses.values()]).tolist()
        if all(map(math.isfinite, values)):
            return
        by_name = dict(zip(losses, values, strict=True))
        where = self.on_bad_loss(self.iter, data, by_name) if self.on_bad_loss else ""
        text = ", ".join(f"{name} {value:.4g}" for name, value in by_name.items())
        names = ", ".join(str(image.get("file_name")) for image in data)
        raise FloatingPointError(
            f"the loss is not finite in iteration {self.iter} ({text}), images: {names}; {where}"
            "lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or look at the data"
        )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


@contextlib.contextmanager
def unfused(device_type: str) -> Iterator[None]:
    """On a CPU, TorchScript as it is written.

    Detectron2's box arithmetic is scripted. From the third call on TorchScript runs a version that
    it has specialised and fused, with other last bits: a run that was interrupted, and so counts
    anew, would not end with the same ones. On a GPU nobody is promised those.
    """
    if device_type != "cpu":
        yield
        return
    with torch.jit.optimized_execution(False):
        yield
