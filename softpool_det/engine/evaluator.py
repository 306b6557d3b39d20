"""COCO's evaluation, whose files are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from softpool_det.engine.signals import at_once
from softpool_det.files import replacing_within


class Evaluator(COCOEvaluator):
    """Detectron2's evaluator; a kill while it writes leaves the files of the evaluation before."""

    _output_dir: str | None

    def evaluate(self, img_ids: Any = None) -> dict[str, Any]:
        """AP by task, as Detectron2's; writes what that writes into the output folder.

        Raises:
            Interrupted: a signal came.
            OSError: the disk is full or read-only; one line with the folder and the free space.
        """
        folder = self._output_dir
        if not folder or not comm.is_main_process():
            return super().evaluate(img_ids)
        with replacing_within(Path(folder)) as temporary:
            self._output_dir = str(temporary)
            try:
                with at_once():
                    return super().evaluate(img_ids)
            finally:
                self._output_dir = folder
