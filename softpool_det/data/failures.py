"""Records that cannot be read: one line for each, not a worker's traceback."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager
from PIL import Image

from softpool_det.images import FORMATS

logger = logging.getLogger(__name__)

# What Pillow raises of damaged files, and Detectron2 of images that have another size than it was
# told (a ValueError). Anything else is a fault of a program and keeps its traceback.
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, zlib.error)
# Of the objects of an image all have to have these, or none.
_OPTIONAL = ("segmentation", "keypoints")
# What mappers hand to PIL, which takes a PostScript program for an image.
_IMAGES = ("file_name", "sem_seg_file_name", "pan_seg_file_name")


class DataError(ValueError):
    """Data that cannot be used; the text is one line that names file and entry."""


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

    Args:
        mapper: from a record to what a model takes.
        max_pixels: an image whose header tells more is not decoded.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any], max_pixels: int) -> None:
        self.mapper, self.max_pixels = mapper, max_pixels

    def __call__(self, record: dict[str, Any]) -> Any:
        name = str(record.get("file_name", "a record without file_name"))
        try:
            for key in filter(record.__contains__, _IMAGES):
                self._check_pixels(str(record[key]))
            return self.mapper(record)
        except KeyError as error:
            if error.args[0] not in _OPTIONAL:
                raise
            return Unreadable(name, f"an object of it has no {error}")
        except _FAILURES as error:
            if isinstance(error, FileNotFoundError):
                return Unreadable(name, "there is no such file")
            text = str(error).strip().splitlines()
            return Unreadable(name, text[0] if text else type(error).__name__)

    def _check_pixels(self, name: str) -> None:
        # Pillow looks at the header, warns above the limit and refuses from twice the limit on.
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with PathManager.open(name, "rb") as file:
                    Image.open(file, formats=FORMATS).close()
            except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
                raise ValueError(f"INPUT.MAX_PIXELS is {self.max_pixels}: {error}") from error


@dataclass
class Skipped:
    """What was left out, by file: said once, counted, and listed at the end of a run.

    Args:
        reasons: by file or entry.
    """

    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        if name not in self.reasons:
            logger.warning("skipped: %s: %s", name, reason)
            self.reasons[name] = reason


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
