"""What a classifier said of every image of a data set, and how often it was right."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softpool_det.io.atomic import replacing
from softpool_det.io.errors import error_text

# Of all arrays, unpacked. Those of ImageNet-21k's 14 million images take 240 MB.
MAX_BYTES = 2**30
# What reading other files and damaged ones raises; MemoryError, of a size that only the header has.
_DAMAGE = (
    *(KeyError, TypeError, ValueError, AttributeError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError, RecursionError),
)
_ARRAYS = ("labels", "predicted", "in_top5")


@dataclass(frozen=True)
class Predictions:
    """Of the N images of a data set, in its order.

    Args:
        labels: (N,) int64, the true classes.
        predicted: (N,) int64, the classes with the highest score.
        in_top5: (N,) bool, whether the true class is among the five highest (or all there are).
    """

    labels: np.ndarray
    predicted: np.ndarray
    in_top5: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted

    def accuracies(self) -> dict[str, float]:
        """Top-1 and top-5 accuracy in percent."""
        return {"top1": 100 * float(self.correct.mean()), "top5": 100 * float(self.in_top5.mean())}

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                _check_size(file.zip)
                return cls(*(file[name] for name in _ARRAYS))
        except _DAMAGE as error:
            raise ValueError(
                f"{path} holds no predictions: expected the predictions.npz that "
                f"tools/train_classifier.py writes ({error_text(error)})"
            ) from error


def _check_size(archive: zipfile.ZipFile) -> None:
    """Refuse what would not fit the memory before anything is unpacked."""
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
