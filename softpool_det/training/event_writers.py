"""Metrics of a training for Weights & Biases and for MLflow.

Both are configured by their own environment variables: WANDB_PROJECT and WANDB_MODE,
MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME, and so on.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

from softpool_det.io.atomic import write_atomically
from softpool_det.io.data_errors import DataError

logger = logging.getLogger(__name__)

# Detectron2's writers smooth by a median over so many iterations.
_WINDOW = 20


class _ScalarWriter(EventWriter):
    """Hands on scalars as Detectron2's JSONWriter writes them.

    A folder is one run: its id lies in the folder, and a resumed training continues it.

    Args:
        folder: of the run.
    """

    module: str

    def __init__(self, folder: Path) -> None:
        try:
            self.library: Any = importlib.import_module(self.module)
        except ImportError as error:
            raise DataError(
                f"LOG.WRITERS names {self.module}, which cannot be imported ({error}); install it "
                f"(pip install {self.module}, or softpool_det with the extra [{self.module}])"
            ) from error
        self.folder, self._last = folder, -1
        self._run: Any = None

    def write(self) -> None:
        if self._run is None:
            note = self.folder / f"{self.module}_run"
            known = note.read_text().strip() if note.is_file() else None
            try:
                self._run, name = self.start(known)
            except Exception as error:
                raise DataError(f"LOG.WRITERS: {self.module} does not start: {error}") from error
            write_atomically(note, name)
        by_iteration: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(_WINDOW)
        for name, (value, iteration) in latest.items():
            if iteration > self._last:
                by_iteration[iteration][name] = value
        for iteration in sorted(by_iteration):
            self._last = iteration
            try:
                self.log(by_iteration[iteration], iteration)
            except Exception as error:  # a network must not end a training
                logger.warning("%s: iteration %d is lost: %s", self.module, iteration, error)

    def start(self, known: str | None) -> tuple[Any, str]:
        """Begin a run, or continue the `known` one; return it and its id."""
        raise NotImplementedError

    def log(self, scalars: dict[str, float], iteration: int) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self._run is not None:
            try:
                self.finish()
            except Exception as error:
                logger.warning("%s: the run is not finished there: %s", self.module, error)


class WandbWriter(_ScalarWriter):
    """Write scalars to Weights & Biases."""

    module = "wandb"

    def start(self, known: str | None) -> tuple[Any, str]:
        run = self.library.init(dir=str(self.folder), id=known, resume="allow")
        return run, run.id

    def log(self, scalars: dict[str, float], iteration: int) -> None:
        self._run.log(scalars, step=iteration)

    def finish(self) -> None:
        self._run.finish()


class MlflowWriter(_ScalarWriter):
    """Write scalars to MLflow."""

    module = "mlflow"

    def start(self, known: str | None) -> tuple[Any, str]:
        run = self.library.start_run(run_id=known)
        return run, run.info.run_id

    def log(self, scalars: dict[str, float], iteration: int) -> None:
        # It takes these letters in names; those of classes may have others.
        named = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in scalars.items()}
        self.library.log_metrics(named, step=iteration)

    def finish(self) -> None:
        self.library.end_run()


_WRITERS: dict[str, Callable[[Path], EventWriter]] = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def build_event_writers(names: Sequence[str], folder: Path) -> list[EventWriter]:
    """Writers by name.

    Args:
        names: of "wandb" and "mlflow".
        folder: of the run.

    Raises:
        DataError: a name is not one of the two, or its package is not installed.
    """
    for name in names:
        if name not in _WRITERS:
            raise DataError(f"LOG.WRITERS must be of {', '.join(_WRITERS)}, got {name!r}")
    return [_WRITERS[name](folder) for name in names]
