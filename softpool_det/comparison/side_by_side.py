"""Runs that train side by side, each in a process of its own."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from subprocess import Popen
from sys import stderr

from detectron2.config import CfgNode
from tqdm import tqdm

from softpool_det.comparison.arms import Run
from softpool_det.comparison.training_curves import METRICS_FILE
from softpool_det.training.signals import Interrupted, passing_on

# Between two looks at the processes, in seconds.
_INTERVAL = 1.0
# Bytes at the end of a file of metrics, with its last lines.
_TAIL = 8192
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
        look: called about every second.

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
    done = len(finished)
    with (
        passing_on(lambda: [process.pid for process in queue.running]) as signals,
        tqdm(
            total=len(runs),
            initial=done,
            desc=folder.name,
            bar_format=_BAR,
            smoothing=0,  # the time to go is by the mean of all runs
            miniters=0,
            mininterval=0.1 if stderr.isatty() else 60,  # in a log, a line a minute at most
        ) as bar,
    ):
        try:
            while queue.waiting or queue.running:
                queue.start(signals)
                if not signals:
                    look()
                time.sleep(_INTERVAL)
                done += queue.collect(signals)
                bar.update(done + queue.share() - bar.n)
                if signals and not queue.running:
                    print(f"{folder}: interrupted; the same command continues it", file=stderr)
                    raise Interrupted
        finally:
            queue.stop()
    if queue.failures:
        raise RuntimeError("\n".join(queue.failures))


@dataclass
class _Running:
    """A run whose process is running, and what holds its folder."""

    run: Run
    held: ExitStack
    iterations: int

    def share(self) -> float:
        """Return the part of its iterations that is done, as far as it has written that."""
        try:
            with (self.run.folder / METRICS_FILE).open("rb") as file:
                file.seek(max(0, file.seek(0, SEEK_END) - _TAIL))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return 0.0
        for line in reversed(lines):
            try:
                return min(1.0, (json.loads(line)["iteration"] + 1) / self.iterations)
            except (ValueError, KeyError):
                continue  # a line that is being written, or an evaluation's
        return 0.0


class _Queue:
    """Runs that wait and runs that are running."""

    def __init__(self, workers: int, threads: int | None, waiting: deque[Run]) -> None:
        self.workers, self.threads, self.waiting = workers, threads, waiting
        self.running: dict[Popen, _Running] = {}
        self.failures: list[str] = []

    def share(self) -> float:
        """Return how many runs' worth of iterations the running ones have done."""
        return sum(each.share() for each in self.running.values())

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
            cfg = run.arm.load(run.seed)
            iterations = cfg.SOLVER.MAX_ITER if isinstance(cfg, CfgNode) else cfg.train.max_iter
            process = run.start(lock, threads=self.threads)
            self.running[process] = _Running(run, held, max(1, iterations))
            for number in signals:  # that came before the process was known
                process.send_signal(number)

    def collect(self, signals: list[int]) -> int:
        """Let go of what has ended; how many of them are finished."""
        count = 0
        for process in [process for process in self.running if process.poll() is not None]:
            ended = self.running.pop(process)
            ended.held.close()
            if signals and process.returncode in (0, *(-number for number in signals)):
                continue
            try:
                ended.run.check(process.returncode)
                count += 1
            except RuntimeError as error:
                self.failures.append(str(error))
                if self.waiting or self.running:  # else it is raised at once
                    print(error, file=stderr)
        return count

    def stop(self) -> None:
        """Let all save and end."""
        for process in self.running:
            process.terminate()
        for process, ending in self.running.items():
            process.wait()
            ending.held.close()
