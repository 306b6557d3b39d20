"""Runs that train side by side, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from subprocess import Popen

from detectron2.config import CfgNode
from tqdm import tqdm

from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.training_curves import METRICS_FILE
from softpool_det.training.signals import Interrupted, passing_on

# Between two looks at the processes, in seconds.
_INTERVAL = 1.0
# Bytes at the end of a file of metrics, with its last lines.
_TAIL = 65536
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.3g}/{total} runs [{elapsed}<{remaining}]"


def run_side_by_side(
    runs: Sequence[Run],
    workers: int,
    threads: int | None,
    folder: Path,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Run what is not finished, several processes at a time, with one progress line.

    Args:
        runs: all of them, in this order.
        workers: processes at a time, from 1.
        threads: of each; None for what the environment says.
        folder: of all runs; its name is the progress line's.
        look: is called about once a second.

    Raises:
        RuntimeError: runs failed; all others are finished first.
        Interrupted: a signal came, which the running processes got, too; they have saved.
        FileExistsError: a folder holds a run of another config.
        ValueError: `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}, must be at least 1")
    finished = [run for run in runs if run.result.is_file()]
    for run in finished:
        with run.claimed():  # whether they are runs of these arms
            pass
    queue = _Queue(workers, threads, deque(run for run in runs if run not in finished))
    queue.done = len(finished)
    with (
        passing_on(queue.processes) as signals,
        tqdm(
            total=len(runs),
            initial=queue.progress(),  # what earlier processes did says nothing about speed
            desc=folder.name,
            bar_format=_BAR,
            smoothing=0,  # the time to go is by the mean of all runs
            miniters=0,
            mininterval=0.1 if sys.stderr.isatty() else 60,  # in a log, a line a minute at most
        ) as bar,
    ):
        try:
            while queue.running or (queue.waiting and not signals):
                queue.start(signals)
                if not signals:
                    look()
                time.sleep(_INTERVAL)
                queue.collect(signals)
                if not signals:
                    bar.update(queue.progress() - bar.n)
        finally:
            queue.stop()
    if queue.failures:
        raise RuntimeError("\n".join(queue.failures))
    if signals:
        print(f"{folder}: interrupted; the same command continues it", file=sys.stderr)
        raise Interrupted


class _Queue:
    """Runs that wait, and the processes of the running ones."""

    def __init__(self, workers: int, threads: int | None, waiting: deque[Run]) -> None:
        self.workers, self.threads, self.waiting = workers, threads, waiting
        self.running: dict[Popen, tuple[Run, ExitStack]] = {}
        self.is_starting = False
        self.done = 0
        self.failures: list[str] = []

    def processes(self) -> list[int] | None:
        """Return the numbers of the running ones; None while one is being started."""
        return None if self.is_starting else [process.pid for process in self.running]

    def progress(self) -> float:
        """Return how many runs are done, with those that are not by the share that is."""
        unfinished = [*self.waiting, *(run for run, _ in self.running.values())]
        return self.done + sum(map(_share, unfinished))

    def start(self, signals: list[int]) -> None:
        """Start what there is room for, unless a signal has come."""
        for _ in range(len(self.waiting)):
            if signals or len(self.running) >= self.workers:
                return
            run, held = self.waiting.popleft(), ExitStack()
            try:
                lock = held.enter_context(run.claimed(wait=False))
            except BlockingIOError:
                self.waiting.append(run)
                continue
            if run.result.is_file():  # the program that held it has finished it
                held.close()
                self.done += 1
                continue
            self.is_starting = True
            process = run.start(lock, threads=self.threads)
            self.running[process] = run, held
            self.is_starting = False
            for number in signals:  # that came before the process was known
                process.send_signal(number)

    def collect(self, signals: list[int]) -> None:
        """Forget the processes that have ended, count the runs that they finished."""
        for process in [process for process in self.running if process.poll() is not None]:
            run, held = self.running.pop(process)
            held.close()
            if signals and process.returncode in (0, *(-number for number in signals)):
                continue
            try:
                run.check(process.returncode)
                self.done += 1
            except RuntimeError as error:
                self.failures.append(str(error))
                if self.waiting or self.running:  # else it is raised at once
                    tqdm.write(str(error), file=sys.stderr)

    def stop(self) -> None:
        """Ask all processes to save and end, and wait for them."""
        for process in self.running:
            process.terminate()
        for process, (_, held) in self.running.items():
            process.wait()
            held.close()


def _share(run: Run) -> float:
    """Return the share of a run's iterations that its metrics.json shows as done."""
    path = run.folder / METRICS_FILE
    if run.arm.weights is not None or not path.is_file():
        return 0.0
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return min(1.0, (json.loads(line)["iteration"] + 1) / _iterations(run.arm))
        except (ValueError, KeyError):
            continue  # a line that is being written
    return 0.0


@cache
def _iterations(arm: Arm) -> int:
    cfg = arm.load(seed=1)
    return max(1, cfg.SOLVER.MAX_ITER if isinstance(cfg, CfgNode) else cfg.train.max_iter)
