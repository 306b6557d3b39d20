"""What a run shows while it trains, and what it records of its cost."""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
import time

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

# Of the lines that Detectron2's set-up sends to the terminal.
_LOGGERS = ("detectron2", "fvcore", "softpool_det")


class TrainingClock(HookBase):
    """Seconds spent in training steps, over all interruptions; evaluation is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        # Losses are read in every step, which waits for the GPU: no synchronisation is needed.
        self.seconds += time.perf_counter() - self._start

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seconds = state["seconds"]


class ProgressLine(EventWriter):
    """One line on stderr: iterations done, loss, and the time to go."""

    def __init__(self, label: str, max_iter: int) -> None:
        self.label = label
        self.max_iter = max_iter
        self.bar: tqdm | None = None
        self._above = contextlib.ExitStack()

    def write(self) -> None:
        storage = get_event_storage()
        # After the last step the storage counts one more.
        done = min(storage.iter + 1, self.max_iter)
        if self.bar is None:
            # Made now, not earlier: what a resumed run did before must not count for its speed.
            # Without a terminal each refresh is a line of a log: one every half minute will do.
            interval = 0.5 if sys.stderr.isatty() else 30.0
            if sys.stderr.isatty():
                loggers = [logging.getLogger(name) for name in _LOGGERS]
                self._above.enter_context(logging_redirect_tqdm(loggers))
            self.bar = tqdm(
                total=self.max_iter,
                initial=done,
                desc=self.label,
                unit="it",
                mininterval=interval,
                maxinterval=interval,
            )
        # A run resumed behind its last step has no losses to show.
        losses = storage.histories().get("total_loss")
        if losses is not None:
            self.bar.set_postfix(loss=f"{losses.median(20):.3f}", refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self._above.close()


def peak_memory_bytes(device: str) -> int:
    """Peak of this process: allocated memory on a GPU, resident set size on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
