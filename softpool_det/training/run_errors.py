"""What a run says of its end: one line of what went wrong, and a list of what was left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from detectron2.utils import comm

from softpool_det.io import errors
from softpool_det.io.atomic import replacing, write_json
from softpool_det.io.data_errors import DataError, Skipped

# Not the program's fault: the text is one line, and a traceback would add nothing.
EXPECTED = (DataError, FloatingPointError, OSError)
SKIPPED_FILE = "skipped.json"

logger = logging.getLogger(__name__)


class _WithoutTracebacks(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, EXPECTED)


def tell_once() -> None:
    """Keep Detectron2's loop from logging tracebacks of what the program says at its end."""
    loop = logging.getLogger("detectron2.engine.train_loop")
    if not any(isinstance(known, _WithoutTracebacks) for known in loop.filters):
        loop.addFilter(_WithoutTracebacks())


@contextmanager
def setting_up() -> Iterator[None]:
    """Turn the block's errors, which the user's input caused, into DataError.

    Raises:
        DataError: instead of KeyError, ValueError and RuntimeError.
    """
    try:
        yield
    except EXPECTED:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        raise DataError(errors.error_text(error)) from error


def describe(error: BaseException) -> str:
    """Format an `EXPECTED` error as the line that a program ends with.

    Where a disk is full, the log that is closed at the end fails, too; the first is reported.
    """
    while not error.__suppress_context__ and isinstance(error.__context__, EXPECTED):
        error = error.__context__
    return errors.describe(error)


def write_skipped(skipped: Skipped, folder: Path) -> None:
    """List in `folder`/skipped.json what was left out; no such file where nothing was.

    With several processes each has seen its own; the first one writes those of all.
    """
    reasons: dict[str, str] = {}
    for part in comm.gather(skipped.reasons):
        reasons.update(part)
    if not comm.is_main_process():
        return
    path = folder / SKIPPED_FILE
    path.unlink(missing_ok=True)  # of another run in this folder
    if reasons:
        write_json(path, {"count": len(reasons), "skipped": reasons})
        logger.warning("%d records were left out (INPUT.SKIP_CORRUPT): %s", len(reasons), path)


def save_bad_batch(
    folder: Path, iteration: int, batch: list[dict[str, Any]], losses: dict[str, float]
) -> str:
    """Keep a batch to look at: each image with its boxes drawn, and all of it as tensors.

    Args:
        folder: of the run.
        iteration: whose batch it is.
        batch: as a model takes it.
        losses: by name.

    Returns:
        Where it is, for an error's text.
    """
    # With matplotlib, a fifth of a program's start, which hardly any run has a use for.
    from detectron2.utils.visualizer import Visualizer

    kept = folder / f"bad_batch_{iteration:07d}_rank{comm.get_rank()}"
    images = []
    for number, record in enumerate(batch):
        instances = record.get("instances")
        fields = {} if instances is None else instances.get_fields()
        boxes = fields["gt_boxes"].tensor if "gt_boxes" in fields else torch.zeros(0, 4)
        classes = fields.get("gt_classes", torch.zeros(0, dtype=torch.int64))
        image = {"file_name": str(record.get("file_name")), "image": record["image"]}
        images.append({**image, "gt_boxes": boxes, "gt_classes": classes})
        finite = torch.isfinite(boxes).all(dim=1)
        drawn = Visualizer(record["image"].permute(1, 2, 0).numpy()).overlay_instances(
            boxes=boxes[finite].numpy(), labels=[str(i) for i in classes[finite].tolist()]
        )
        with replacing(kept / f"{number}.png") as temporary:
            cv2.imwrite(str(temporary), drawn.get_image())
    with replacing(kept / "batch.pth") as temporary:
        torch.save({"iteration": iteration, "losses": losses, "images": images}, temporary)
    return f"the batch is in {kept}; "
