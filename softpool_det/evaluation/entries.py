"""Lists of COCO files, read column by column, with errors that name the entry."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from softpool_det.masks import compressed

_SIDES = ("height", "width")
# Bytes that a gzip'd file may unpack to.
MAX_UNPACKED = 2**32


class Entries:
    """The entries of one list in a file, read column by column."""

    def __init__(self, path: Path, key: str, data: dict, may_be_empty: bool = False):
        self.path, self.key = path, key
        entries = data.get(key)
        if not isinstance(entries, list):
            raise ValueError(f"{path}: the list {key!r} is missing")
        self.entries: list = entries
        if not self.entries and not may_be_empty:
            raise ValueError(f"{path}: there are no {key}")
        for index, entry in enumerate(self.entries):
            if not isinstance(entry, dict):
                self.fail(index, f"not an object but {entry!r:.60}")

    def fail(self, index: int, problem: str) -> None:
        raise ValueError(f"{self.path}: entry {index} of {self.key}: {problem}")

    def column(self, key: str) -> list:
        try:
            return [entry[key] for entry in self.entries]
        except KeyError:
            index = next(i for i, entry in enumerate(self.entries) if key not in entry)
            self.fail(index, f"{key!r} is missing")
            raise

    def numbers(self, key: str) -> np.ndarray:
        """(N,) float64, all finite."""
        values = self.column(key)
        if set(map(type, values)) - {int, float}:
            index = next(i for i, value in enumerate(values) if type(value) not in (int, float))
            self.fail(index, f"{key} is {values[index]!r:.60}, not a number")
        array = _floats(values)
        finite = np.isfinite(array)
        if not finite.all():
            index = int(np.argmin(finite))
            self.fail(index, f"{key} is {values[index]!r:.60}, not a finite number")
        return array

    def ids(self, key: str) -> np.ndarray:
        """(N,) int64, or objects where all are text."""
        values = self.column(key)
        if set(map(type, values)) == {str}:
            return np.array(values, dtype=object)
        return self._whole(key, values)

    def integers(self, key: str) -> np.ndarray:
        """(N,) int64."""
        return self._whole(key, self.column(key))

    def sizes(self) -> np.ndarray:
        """(N, 2) int64: height and width, 0 where there are none."""
        sides = ((key, [entry.get(key) or 0 for entry in self.entries]) for key in _SIDES)
        return np.stack([self._whole(key, values) for key, values in sides], axis=1)

    def _whole(self, key: str, values: list) -> np.ndarray:
        wrong = (i for i, value in enumerate(values) if not _is_whole(value))
        if (index := next(wrong, None)) is not None:
            self.fail(index, f"{key} is {values[index]!r:.60}, not a whole number of 64 bits")
        return np.array(values, dtype=np.int64)

    def flags(self, key: str) -> np.ndarray:
        """(N,) uint8, 0 where the key is missing."""
        return np.array([bool(entry.get(key)) for entry in self.entries], dtype=np.uint8)

    def unique(self, key: str, ids: np.ndarray) -> None:
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            again = np.ones(len(ids), dtype=bool)
            again[first] = False
            index = int(np.argmax(again))
            self.fail(index, f"{key} {ids[index]} was there before")

    def lookup(self, key: str, known: np.ndarray, where: str) -> np.ndarray:
        """(N,) int32: places in `known`, which rises."""
        values, is_text = self.column(key), known.dtype == object
        for index, value in enumerate(values):
            if isinstance(value, str) != is_text:
                kind = "text" if is_text else "numbers"
                self.fail(index, f"{key} is {value!r:.60}, the ids in {where} are {kind}")
        ids = np.array(values, dtype=object) if is_text else self._whole(key, values)
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        found = known[places] == ids
        if not found.all():
            index = int(np.argmin(found))
            self.fail(index, f"{key} {ids[index]!s:.60} is not in {where}")
        return places.astype(np.int32)

    def boxes(self) -> np.ndarray:
        """(N, 4) float64: x, y, width, height."""
        values = self.column("bbox")
        wrong = (i for i, value in enumerate(values) if not _is_box(value))
        if (index := next(wrong, None)) is not None:
            self.fail(index, f"bbox is {values[index]!r:.60}, not [x, y, width, height]")
        boxes = _floats(values).reshape(-1, 4)
        good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)
        if not good.all():
            index = int(np.argmin(good))
            problem = "must be finite, width and height not negative"
            self.fail(index, f"bbox {values[index]!r:.60}: [x, y, width, height] {problem}")
        return boxes

    def masks(self, sizes: np.ndarray) -> list[dict]:
        """N compressed run-length encodings, each of its image's size where that is known."""
        masks = []
        columns = zip(self.column("segmentation"), sizes.tolist(), strict=True)
        for index, (segmentation, (height, width)) in enumerate(columns):
            if not isinstance(segmentation, dict):
                self.fail(index, "segmentation is not a run-length encoding {'size', 'counts'}")
            try:
                masks.append(compressed(segmentation, height, width))
            except ValueError as error:
                self.fail(index, str(error))
        return masks


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and set(map(type, value)) <= {int, float}


def _is_whole(value) -> bool:
    # A float that is whole is an id to pycocotools, too.
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return whole and -(2**63) <= value < 2**63


def _floats(values: list) -> np.ndarray:
    """As float64; a whole number that is too large for it becomes an infinite one."""
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.vectorize(_float, otypes=[np.float64])(np.array(values, dtype=object))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_json(path: Path):
    """Read a JSON file, gzip'd or not.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, or unpacks to more than 4 GiB.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            if magic == b"\x1f\x8b":
                return json.loads(_unpacked(path, file))
            return json.load(file)
    except UnicodeDecodeError as error:
        zipped = magic == b"PK"
        what = "a zip archive; unpack it" if zipped else f"not in UTF-8 (byte {error.start})"
        raise ValueError(f"{path}: not a JSON file: {what}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error


def _unpacked(path: Path, file: BinaryIO) -> bytes:
    try:
        with gzip.open(file) as unpacked:
            data = unpacked.read(MAX_UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip data: {error}") from error
    if len(data) > MAX_UNPACKED:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED / 2**30:g} GiB")
    return data
