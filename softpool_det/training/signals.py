"""SIGTERM, Ctrl-C, and Slurm's signal before it takes a machine away: save, and end well."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

# `#SBATCH --signal=USR1@120` sends the second 120 seconds before the end.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

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

    A second SIGINT ends the process at once. Behind the block signals are forgotten.
    """
    owner = os.getpid()
    own: list[int] = []

    def note(number: int, _frame: object) -> None:
        # Workers inherit this (but for SIGTERM: workers.py). Slurm signals them, too, and the
        # step that is running needs them.
        if os.getpid() != owner:
            return
        if number == signal.SIGINT and number in own:
            _end_by_sigint()
        own.append(number)
        _received.append(number)
        if _unguarded:
            raise Interrupted

    before = _handle(note)
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
def passing_on(processes: Callable[[], Iterable[int | None] | None]) -> Iterator[list[int]]:
    """In the block a signal of `SIGNALS` goes to other processes, whose end the block waits for.

    SIGINT is passed on as SIGTERM, because a terminal may have sent it to them, too. The second
    one kills them and ends this process.

    Args:
        processes: their numbers, at the time. Without any, a signal does what it did
            before. None while one is being started: the signal is only noted.

    Yields:
        A list, to which signals that were passed on or noted are added.
    """
    sent: list[int] = []
    interrupts: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        found = processes()
        others = [process for process in found or () if process is not None]
        if found is not None and not others:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        if number == signal.SIGINT:
            interrupts.append(number)
            number = signal.SIGTERM if len(interrupts) == 1 else signal.SIGKILL
        sent.append(number)
        for process in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        if number == signal.SIGKILL:
            _end_by_sigint()

    before = _handle(pass_on)
    try:
        yield sent
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shielding() -> Iterator[None]:
    """Processes that are started in the block never get SIGINT: `passing_on` sends them SIGTERM.

    In a process that is still importing, a terminal's SIGINT would end in a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _handle(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Set the handler of `SIGNALS`, and return those before by number.

    What is ignored stays so, such as the SIGINT of a shell's background job.
    """
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {int(number): signal.signal(number, handler) for number in handled}


def _end_by_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


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
