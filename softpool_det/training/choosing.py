"""The best checkpoint of a training, and the end of one that no longer gets better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from softpool_det.io.data_errors import DataError
from softpool_det.training.checkpointer import BEST, SafeCheckpointer

logger = logging.getLogger(__name__)


class StoppedEarly(BaseException):
    """Ends the loop of a training that has not got better for long enough."""


class BestCheckpoint(hooks.BestCheckpointer):
    """Detectron2's BestCheckpointer, whose state a resumed run keeps, and an early end.

    It belongs behind the evaluation, on all processes.

    Args:
        evaluation: of the run.
        period: of the evaluation, in iterations.
        checkpointer: of the run.
        metric: to be as large as possible, such as "bbox/AP".
        patience: evaluations without a better one before the training ends; 0 for no such end.

    Raises:
        DataError: an argument cannot be used; or, after an evaluation, the metric is not in it.
        StoppedEarly: after an evaluation, where the training is to end; its checkpoint is saved.
    """

    _checkpointer: SafeCheckpointer

    def __init__(
        self,
        evaluation: hooks.EvalHook,
        period: int,
        checkpointer: SafeCheckpointer,
        metric: str,
        patience: int = 0,
    ) -> None:
        if period < 1:
            raise DataError(
                "TEST.BEST_METRIC and TEST.PATIENCE need TEST.EVAL_PERIOD, the iterations between "
                f"two evaluations, to be above 0, got {period}"
            )
        if not metric or patience < 0:
            raise DataError(
                "TEST.PATIENCE must be 0 or more and needs a TEST.BEST_METRIC such as bbox/AP, got "
                f"{patience} and {metric!r}"
            )
        super().__init__(period, checkpointer, metric, file_prefix=BEST)
        self.evaluation, self.patience = evaluation, patience
        # Evaluations since the best one, and the iterations that were done at the last one.
        self.worse = self.evaluated = 0

    def before_train(self) -> None:
        done = self.trainer.start_iter
        due = done % self._period == 0 and done < self.trainer.max_iter
        if due and done > self.evaluated:
            # The run was interrupted between a checkpoint and the evaluation after it.
            self.trainer.iter = self.trainer.storage.iter = done - 1
            self.evaluation.after_step()
            self.after_step()
        elif self._is_over():
            raise StoppedEarly

    def after_step(self) -> None:
        super().after_step()
        if self.evaluated == self.trainer.iter + 1 and self._is_over():
            logger.info(
                "%s was not better than %s in %d evaluations: the training ends here",
                self._val_metric,
                self.best_metric,
                self.worse,
            )
            self._checkpointer.save("model_final", iteration=self.trainer.iter)
            raise StoppedEarly

    def _is_over(self) -> bool:
        return 0 < self.patience <= self.worse

    def _best_checking(self) -> None:
        self.evaluated = self.trainer.iter + 1
        state = None
        if comm.is_main_process():  # which alone has the metrics
            known = self.trainer.storage.latest()
            if self._val_metric not in known:
                names = ", ".join(name for name in known if "/AP" in name)
                raise DataError(f"TEST.BEST_METRIC {self._val_metric} is not one of: {names}")
            before = self.best_iter
            super()._best_checking()
            # Not before the first figure: a detector that finds nothing yet has NaN for AP.
            is_worse = before is not None and self.best_iter == before
            self.worse = self.worse + 1 if is_worse else 0
            state = self.state_dict()
        self.load_state_dict(comm.all_gather(state)[0])

    def restore(self) -> None:
        """Load the best checkpoint, and note that it is what the run gives."""
        if self.best_iter is None:
            logger.warning("no evaluation gave a %s: the last weights are taken", self._val_metric)
            return
        path = Path(self._checkpointer.save_dir, f"{BEST}.pth")
        self._checkpointer.load(str(path), checkpointables=[])
        if comm.is_main_process():
            self._checkpointer.tag_last_checkpoint(path.name)

    def state_dict(self) -> dict[str, Any]:
        names = ("best_metric", "best_iter", "worse", "evaluated")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def evaluation_hooks(
    evaluation: hooks.EvalHook,
    period: int,
    checkpointer: SafeCheckpointer,
    metric: str,
    patience: int,
    datasets: Sequence[str],
) -> list[HookBase]:
    """Build the evaluation hook and, if a metric or a patience is given, the choice by it.

    Raises:
        DataError: one of them cannot be used, or `datasets` is empty.
    """
    if not metric and not patience:
        return [evaluation]
    if not datasets:
        raise DataError(
            "TEST.BEST_METRIC and TEST.PATIENCE need images to evaluate on, in DATASETS.VALIDATION "
            "or DATASETS.TEST"
        )
    return [evaluation, BestCheckpoint(evaluation, period, checkpointer, metric, patience)]


def choice_remarks(metric: str, validation: Sequence[str], test: Sequence[str]) -> list[str]:
    """Remark on a checkpoint that is chosen on what it is tested on.

    Args:
        metric: by which it is chosen; "" where it is not.
        validation, test: names of data sets; without `validation`, the choice is made on `test`.
    """
    seen = set(test).intersection(validation or test)
    if not metric or not seen:
        return []
    return [
        f"The checkpoint was chosen by {metric} on the data that it is tested on "
        f"({', '.join(sorted(seen))}), so that its figures are too good. Name other data for the "
        "choice (DATASETS.VALIDATION; --val-json beside --test-json)."
    ]
