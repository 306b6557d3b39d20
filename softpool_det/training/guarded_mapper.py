"""Records that cannot be read: one line for each, not a worker's traceback."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image

from softpool_det.io.data_errors import DataError
from softpool_det.io.images import FORMATS, explain_size, load_image

# What Pillow raises of damaged files, and Detectron2 of images that have another size than their
# entry says (a ValueError). Anything else is a fault of a program and keeps its traceback.
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, zlib.error)
# Of the objects of an image all have to have these, or none.
_OPTIONAL = ("segmentation", "keypoints")
# What mappers hand to PIL, which takes a PostScript program for an image; with the one mode of
# those whose pixels are labels, which any conversion would change.
_IMAGES = {"file_name": None, "sem_seg_file_name": "L", "pan_seg_file_name": "RGB"}

_detectron2_read_image = detection_utils.read_image


class Unreadable(NamedTuple):
    """A record that could not be read.

    Args:
        file_name: of its image.
        reason: one line.
    """

    file_name: str
    reason: str


class Sample(NamedTuple):
    """What stands at a place of the training stream.

    Args:
        mapped: what the mapper made; None where nothing could be read.
        unreadable: records that came before it and could not be read.
    """

    mapped: Any
    unreadable: list[Unreadable]


class GuardedMapper:
    """A mapper that returns an :class:`Unreadable` for an image that cannot be read.

    What the mapper reads by Detectron2's `utils.read_image` is read by
    :func:`softpool_det.io.images.load_image`: the same bits for 8-bit images, and no silent
    clipping of others.

    Args:
        mapper: from a record to what a model takes.
        max_pixels: an image whose header claims more is not decoded.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any], max_pixels: int) -> None:
        self.mapper, self.max_pixels = mapper, max_pixels

    def __call__(self, record: dict[str, Any]) -> Any:
        name = str(record.get("file_name", "a record without file_name"))
        try:
            for key in filter(record.__contains__, _IMAGES):
                self._check_header(str(record[key]), _IMAGES[key])
            with _own_reader():
                return self.mapper(record)
        except KeyError as error:
            if error.args[0] not in _OPTIONAL:
                raise
            return Unreadable(name, f"an object of it has no {error}")
        except _FAILURES as error:
            if isinstance(error, FileNotFoundError):
                return Unreadable(name, "file not found")
            return Unreadable(name, _reason(record, name, error))

    def _check_header(self, name: str, label_mode: str | None) -> None:
        # Pillow looks at the header, warns above the limit and refuses from twice the limit on.
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with PathManager.open(name, "rb") as file:
                    mode = Image.open(file, formats=FORMATS).mode
            except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
                raise ValueError(f"INPUT.MAX_PIXELS is {self.max_pixels}: {error}") from error
        if label_mode not in (None, mode):
            raise ValueError(
                f"{name} has Pillow's mode {mode}; label images must have {label_mode} (8 bits a "
                "channel), since converting them would change the labels"
            )


def _reason(record: dict[str, Any], name: str, error: BaseException) -> str:
    """One line, without the name of the image, which is said with it."""
    if isinstance(error, detection_utils.SizeMismatchError):
        size = (record["width"], record["height"])
        found = explain_size(PathManager.get_local_path(name), size)
        # Otherwise the mapper read another file, or in another way.
        if found is not None:
            return found
    text = str(error).strip().removeprefix(f"{name} ").splitlines()
    return text[0] if text else type(error).__name__


@contextmanager
def _own_reader() -> Iterator[None]:
    """Have Detectron2's mappers, which call `utils.read_image` by that name, read by ours."""
    detection_utils.read_image = _read_image
    try:
        yield
    finally:
        detection_utils.read_image = _detectron2_read_image


def _read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """As Detectron2's: (H, W, C) uint8 in the given format."""
    image = load_image(PathManager.get_local_path(file_name))
    return detection_utils.convert_PIL_to_numpy(image, format)


class EvaluationBatches:
    """A loader of guarded records whose first unreadable one ends the evaluation.

    Nothing is skipped here: an image without detections lowers AP, and without a word.

    Args:
        loader: its batches are lists of what a :class:`GuardedMapper` returned.
        before_batch: called before each batch.
    """

    def __init__(self, loader: Any, before_batch: Callable[[], None] = lambda: None) -> None:
        self.loader, self.before_batch = loader, before_batch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.loader:
            self.before_batch()
            for mapped in batch:
                if isinstance(mapped, Unreadable):
                    raise DataError(
                        f"{mapped.file_name}: {mapped.reason}; an evaluation needs every image, "
                        "INPUT.SKIP_CORRUPT is for training alone"
                    )
            yield batch
