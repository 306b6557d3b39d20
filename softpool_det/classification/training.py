"""The training loop, and all that an interrupted one needs to go on as if nothing had been."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from softpool_det.classification.averaging import MovingAverage
from softpool_det.classification.loaders import TrainLoader
from softpool_det.classification.precision import Precision
from softpool_det.training.randomness import seed_of

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run has come.

    Args:
        iteration: iterations done.
        seconds: of training, reading of images included, evaluation not, over all interruptions.
        history: what each evaluation found, with its epoch.
    """

    iteration: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """One run. What it draws in an iteration depends on the iteration, not on those before.

    Args:
        model: from images to {"linear": logits}, on its device.
        loader: the batches.
        optimizer: of the model's parameters.
        scheduler: steps after every iteration.
        precision: of the forward.
        epochs: in all.
        seed: of what is drawn for whole batches (MixUp, CutMix), 0 or more.
        label_smoothing: 0 to 1.
        mixer: from (images, labels) to those mixed; None for none.
        average: of the model; None for none.
        log_period: iterations between lines of the log.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: TrainLoader,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler,
        precision: Precision,
        *,
        epochs: int,
        seed: int,
        label_smoothing: float = 0.0,
        mixer: nn.Module | None = None,
        average: MovingAverage | None = None,
        log_period: int = 50,
    ) -> None:
        self.model, self.loader, self.optimizer = model, loader, optimizer
        self.scheduler, self.precision, self.scaler = scheduler, precision, precision.grad_scaler()
        self.epochs, self.seed, self.label_smoothing = epochs, seed, label_smoothing
        self.mixer, self.average, self.log_period = mixer, average, log_period
        self.progress = Progress()
        self.device = next(model.parameters()).device
        self.parallel = model
        if torch.distributed.is_initialized():
            devices = [self.device] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(model, devices)

    @property
    def result(self) -> nn.Module:
        """The model to evaluate and to keep: the average where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def images_per_second(self) -> float:
        """Of all processes together, since the run began; NaN before the first iteration."""
        images = self.progress.iteration * self.loader.batch_size
        return images / self.progress.seconds if self.progress.seconds else math.nan

    @property
    def awaits_evaluation(self) -> bool:
        """Whether an interruption came between an epoch's end and its evaluation's."""
        epoch, since = divmod(self.progress.iteration, self.loader.iterations)
        evaluated = any(entry["epoch"] == epoch for entry in self.progress.history)
        return epoch > 0 and since == 0 and not evaluated

    def run(self, after_iteration: Callable[[bool], None]) -> None:
        """Train to the end.

        Args:
            after_iteration: is told whether an epoch has ended.

        Raises:
            FloatingPointError: the loss is no finite number.
        """
        self.model.train()
        while self.progress.iteration < self.epochs * self.loader.iterations:
            self._run_epoch(
                *divmod(self.progress.iteration, self.loader.iterations), after_iteration
            )

    def _run_epoch(self, epoch: int, start: int, after_iteration: Callable[[bool], None]) -> None:
        progress = self.progress
        losses, since = torch.zeros((), device=self.device), (progress.iteration, progress.seconds)
        clock = time.perf_counter()
        for images, labels in self.loader.epoch(epoch, start):
            losses += self._step(images, labels)
            progress.iteration += 1
            ends = progress.iteration % self.loader.iterations == 0
            is_due = ends or progress.iteration % self.log_period == 0
            # Waits for a GPU, so that the clock is right, too.
            loss = losses.item() if is_due else 0.0
            progress.seconds += time.perf_counter() - clock
            if is_due:
                self._log(epoch, loss, *since)
                losses, since = torch.zeros_like(losses), (progress.iteration, progress.seconds)
            after_iteration(ends)
            # Not before: evaluation and checkpoints are not training.
            clock = time.perf_counter()

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        torch.default_generator.manual_seed(
            seed_of(self.seed, self.progress.iteration, self.loader.rank)
        )
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        if self.mixer is not None:
            images, labels = self.mixer(images, labels)
        with self.precision.autocast():
            logits = self.parallel(images)["linear"]
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self.progress.iteration + 1)
        return loss.detach()

    def _log(self, epoch: int, losses: float, iteration: int, seconds: float) -> None:
        """Of the iterations since `iteration`, when `seconds` had passed."""
        iterations = self.progress.iteration - iteration
        loss = losses / iterations
        rate = iterations * self.loader.batch_size / (self.progress.seconds - seconds)
        logger.info(
            "epoch %d/%d  iteration %d/%d  loss %.4f  lr %.3g  %.0f images/s",
            *(epoch + 1, self.epochs),
            *(self.progress.iteration, self.epochs * self.loader.iterations),
            *(loss, self.scheduler.get_last_lr()[0], rate),
        )
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} by iteration {self.progress.iteration}: lower SOLVER.BASE_LR, "
                "lengthen SOLVER.WARMUP_EPOCHS, or leave SOLVER.AMP.DTYPE float16"
            )

    def _stateful(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }
        return parts if self.average is None else {**parts, "average": self.average}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only: torch.load reads them with `weights_only`."""
        states = {name: part.state_dict() for name, part in self._stateful().items()}
        return {**states, "progress": asdict(self.progress)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.progress = Progress(**state["progress"])
