"""Tasks in one process or in several, with the same results."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import torch
from tqdm import tqdm

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers:
    """Runs tasks one after another, or in the processes of a pool; one thread each."""

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self._pool = pool

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], what: str
    ) -> list[Result]:
        """Run `function` on each task, in order, with a progress bar on terminals.

        Raises:
            RuntimeError: a process was killed.
            Exception: what `function` raises for the first task that fails.
        """
        results: list[Result] = []
        # None: no bar unless stderr is a terminal.
        with tqdm(total=len(tasks), desc=what, disable=None) as bar:
            for result in self._results(function, tasks):
                results.append(result)
                bar.update()
        return results

    def _results(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[Result]:
        if self._pool is None:
            yield from map(function, tasks)
            return
        try:
            for future in [self._pool.submit(function, task) for task in tasks]:
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process was killed, perhaps for its memory; use fewer --jobs"
            ) from error


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    """`jobs` processes, or this one for 1; what is not begun when an error comes is dropped."""
    threads = torch.get_num_threads()
    # In every process: sums over several threads would be rounded otherwise.
    torch.set_num_threads(1)
    # Not by fork: torch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _begin) if jobs > 1 else None
    try:
        yield Workers(pool)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _begin() -> None:
    torch.set_num_threads(1)
    # A terminal's Ctrl-C, which comes to all processes, ends the first one, and by it the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
