"""One training step: in the precision that was asked for, and with a loss that is a number."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from softpool_det.io.data_errors import DataError

# Of SOLVER.AMP.DTYPE.
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class StepTrainer(SimpleTrainer):
    """Detectron2's SimpleTrainer and AMPTrainer in one, for any device.

    Args:
        model, data_loader, optimizer: as for Detectron2's.
        precision: of the forward under autocast; None for float32.
        on_bad_loss: called with the batch and the losses by name where one is not finite;
            says, in what it returns, where to look.
        accumulate: batches of a step, whose losses are averaged.
        correction: called after the last batch of a step; what its losses and gradients are to be
            multiplied by. None for 1.

    Raises:
        FloatingPointError: a loss is NaN or infinite; the weights are those of before the step.
        DataError: `accumulate` is less than 1; or, in a step, the GPU has too little memory (names
            a batch that fits), or the batch is too small for a batch norm.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        precision: torch.dtype | None = None,
        on_bad_loss: Callable[[int, list[dict[str, Any]], dict[str, float]], str] | None = None,
        accumulate: int = 1,
        correction: Callable[[], float] | None = None,
    ) -> None:
        if accumulate < 1:
            raise DataError(f"SOLVER.ACCUMULATE_STEPS must be 1 or more, got {accumulate}")
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.precision, self.on_bad_loss = precision, on_bad_loss
        self.accumulate, self.correction = accumulate, correction
        self._batch: list[dict[str, Any]] = []
        # Only float16 is short of exponent; without it the scaler hands everything on as it is.
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=precision == torch.float16
        )

    def run_step(self) -> None:
        with unfused(self.device_type):
            try:
                self._run_step()
                return
            except torch.OutOfMemoryError as error:
                reason = str(error).partition(". ")[0]
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise DataError(
                    f"iteration {self.iter}: a batch norm needs two numbers a channel, got one: "
                    "set SOLVER.IMS_PER_BATCH to 2 or more for each process, or use larger images"
                ) from None
            # Behind the clause, whose traceback holds what the step had allocated.
            raise DataError(f"iteration {self.iter}: {reason}; {self._advise()}")

    def _run_step(self) -> None:
        data_time, means = 0.0, dict[str, torch.Tensor]()
        for number in range(self.accumulate):
            start = time.perf_counter()
            self._batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            with self._exchanging(number == self.accumulate - 1):
                losses = self._forward(self._batch)
                self._check(self._batch, losses)
                if number == 0:
                    self.optimizer.zero_grad()
                self.grad_scaler.scale(sum(losses.values()) / self.accumulate).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / self.accumulate
        if self.correction is not None:
            factor = self.correction()
            means = {name: factor * mean for name, mean in means.items()}
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.after_backward()
        self._write_metrics(means, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        with torch.autocast(self.device_type, self.precision, enabled=self.precision is not None):
            return self.model(batch)

    def _exchanging(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        """Several processes add up their gradients once a step, after its last batch."""
        if wanted or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _advise(self) -> str:
        """Suggest settings with which a step of as many images fits into the GPU's memory."""
        size, processes = len(self._batch), comm.get_world_size()
        smaller = [part for part in range(size - 1, 0, -1) if size % part == 0]
        # Several processes cannot try: they would wait for each other.
        found = smaller[:1] if processes > 1 else list(filter(self._fits, smaller))[:1]
        if not found:
            return (
                "no smaller batch fits either: lower INPUT.MIN_SIZE_TRAIN and "
                "INPUT.MAX_SIZE_TRAIN, or set SOLVER.AMP.ENABLED True"
            )
        known = "next smaller one, not tried" if processes > 1 else "largest that fits, tried now"
        return (
            f"set SOLVER.IMS_PER_BATCH {processes * found[0]} ({known}) and "
            f"SOLVER.ACCUMULATE_STEPS {self.accumulate * size // found[0]}, which together make "
            f"steps of {processes * self.accumulate * size} images as before"
        )

    def _fits(self, size: int) -> bool:
        """Whether forward and backward of the batch's `size` largest images fit."""
        by_size = sorted(self._batch, key=lambda record: -record["image"].numel())
        self.optimizer.zero_grad()
        try:
            self.grad_scaler.scale(sum(self._forward(by_size[:size]).values())).backward()
        except (RuntimeError, ValueError):  # a batch norm may refuse a single image
            return False
        finally:
            torch.cuda.empty_cache()
        return True

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
    from zero, would not end with the same bits. On a GPU the same bits are not promised.
    """
    if device_type != "cpu":
        yield
        return
    with torch.jit.optimized_execution(False):
        yield
