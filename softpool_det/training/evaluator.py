"""COCO's evaluation: atomic files, and ground truths that may be incomplete."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from softpool_det.coco.completion import complete_annotations, complete_sizes
from softpool_det.io.atomic import replacing_within
from softpool_det.io.data_errors import DataError
from softpool_det.training.signals import at_once


class Evaluator(COCOEvaluator):
    """Detectron2's evaluator; a kill while it writes leaves the files of the evaluation before.

    A ground truth may lack sizes of images, `area` and `iscrowd`, and have text or 0 as ids of
    annotations: that is put right in memory, with one line each.

    Args:
        dataset_name: registered with Detectron2.
        args, options: as for Detectron2's `COCOEvaluator`.

    Raises:
        DataError: an image has no size and cannot be read.
    """

    _output_dir: str | None

    def __init__(self, dataset_name: str, *args: Any, **options: Any) -> None:
        super().__init__(dataset_name, *args, **options)
        data, path = self._coco_api.dataset, Path(self._metadata.json_file)
        folder = Path(self._metadata.get("image_root", ""))
        for failure in complete_sizes(path, data["images"], folder).values():
            raise DataError(f"{path}: an image has no size, and {failure}")
        if self._do_evaluation:
            complete_annotations(path, data)
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco_api.createIndex()  # by ids, which may be others now

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
