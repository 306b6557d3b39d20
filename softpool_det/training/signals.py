"""SIGTERM, and Slurm's word before it takes a machine away: save, and end well."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

# `#SBATCH --signal=USR1@120` sends the second 120 seconds before the end.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_received: list[int] = []
# Blocks in which nothing is lost when a signal ends them.
_unguarded: list[None] = []


class Interrupted(SystemExit):
    """Ends the program with status 0: what was to be saved is saved."""

    def __init__(self) -> None:
        super().__init__(0)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """In the block a signal of `SIGNALS` is noted, and does nothing else by itself.

    Behind the block it is forgotten.
    """
    owner = os.getpid()

    def note(number: int, _frame: object) -> None:
        # Workers inherit this (but for SIGTERM: workers.py). Slurm signals them, too, and the
        # step that is running needs them.
        if os.getpid() == owner:
            _received.append(number)
            if _unguarded:
                raise Interrupted

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # Later loops of this process, in a block or not, are not to end by it.
        _received.clear()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """In the block a signal does not wait: for what takes minutes and saves nothing by itself.

    Raises:
        Interrupted: a signal came, in the block or before it.
    """
    stop_if_received()
    _unguarded.append(None)
    try:
        yield
    finally:
        _unguarded.pop()


@contextlib.contextmanager
def passing_on(processes: Callable[[], Iterable[int | None]]) -> Iterator[list[int]]:
    """In the block a signal of `SIGNALS` goes to other processes, whose end the block waits for.

    Args:
        processes: their numbers, at the time. Without any, a signal does what it did
            before.

    Yields:
        A list, to which signals that came are added.
    """
    came: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        others = [process for process in processes() if process is not None]
        came.append(number)
        if not others:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        for process in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if_received() -> None:
    """For loops outside of training steps, such as an evaluation's.

    Raises:
        Interrupted: a signal was noted.
    """
    if _received:
        raise Interrupted


class StopOnSignal(HookBase):
    """Save a checkpoint after the step in which any process got a signal, and end.

    It belongs between the hooks that are part of a step (the learning rate's) and the evaluation.

    Args:
        checkpointer: of the run.
    """

    def __init__(self, checkpointer: DetectionCheckpointer) -> None:
        self.checkpointer = checkpointer
        self._is_inside_step = False

    def before_step(self) -> None:
        self._is_inside_step = True

    def after_step(self) -> None:
        self._is_inside_step = False
        if any_received():
            raise Interrupted

    def after_train(self) -> None:
        # Also where an evaluation was interrupted, for it is a hook that runs after a step is
        # done. A step that is not may leave weights half changed.
        done = self.trainer.iter
        if _received and not self._is_inside_step and done < self.trainer.max_iter:
            logger.info("%s: saving", signal.Signals(_received[0]).name)
            self.checkpointer.save(f"model_{done:07d}", iteration=done)
            logger.info("saved after iteration %d; --resume continues from there", done)


def any_received() -> bool:
    """Whether any of the processes got a signal; all have to ask, and wait for each other."""
    if comm.get_world_size() == 1:
        return bool(_received)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([_received[0] if _received else 0], device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    number = int(flag)
    if number and not _received:
        _received.append(number)
    return bool(number)
