"""COCO files read, and lists of them column by column, with errors that name the entry."""

from __future__ import annotations

import codecs
import gc
import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np

from softpool_det.coco import columns
from softpool_det.coco.checks import (
    MISSING,
    Fault,
    Policy,
    box_fault,
    category_id_fault,
    id_fault,
    image_id_fault,
    shorten,
)
from softpool_det.io.data_errors import DataError

# Bytes that a gzip'd file may unpack to.
MAX_UNPACKED = 2**32


class Entries:
    """The entries of one list in a file, read column by column.

    Args:
        path: the file.
        key: the list's name.
        data: content of the file.
        policy: what the file may hold.
        may_be_empty: whether the list may.

    Raises:
        DataError: the list is missing or empty, or an entry is not an object.
    """

    def __init__(self, path: Path, key: str, data: Any, policy: Policy, may_be_empty: bool = False):
        self.path, self.key, self.policy = path, key, policy
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{path}: the list {key!r} is missing")
        self.entries: list[dict[str, Any]] = entries
        if not self.entries and not may_be_empty:
            raise DataError(f"{path}: the list {key!r} is empty")
        if set(map(type, entries)) - {dict}:
            index = next(i for i, entry in enumerate(entries) if not isinstance(entry, dict))
            raise DataError(
                f"{path}: entry {index} of {key} is {shorten(entries[index])}, must be an object"
            )

    def name(self, index: int) -> str:
        """Return how errors call an entry: "entry 3 of annotations (id 4, image_id 1)"."""
        entry = self.entries[index]
        ids = [f"{key} {entry[key]!r:.40}" for key in ("id", "image_id") if key in entry]
        return f"entry {index} of {self.key}" + (f" ({', '.join(ids)})" if ids else "")

    def fail(self, index: int, problem: Fault | str) -> NoReturn:
        """Raise DataError for an entry, which it names."""
        raise DataError(f"{self.path}: {self.name(index)}: {problem}")

    def require(self, right: np.ndarray, rule: Callable[[dict[str, Any]], Fault | None]) -> None:
        """Fail at the first entry that is not `right`, (N,) bool, with the words of its rule."""
        if not right.all():
            index = int(np.argmin(right))
            fault = rule(self.entries[index])
            assert fault is not None
            self.fail(index, fault)

    def check(self, rule: Callable[[dict[str, Any], Policy], Fault | None]) -> None:
        """Fail at the first entry that breaks the rule."""
        for index, entry in enumerate(self.entries):
            if fault := rule(entry, self.policy):
                self.fail(index, fault)

    def column(self, key: str) -> list:
        """Return the values of a key, MISSING where an entry lacks it."""
        try:
            return list(map(itemgetter(key), self.entries))
        except KeyError:
            return [entry.get(key, MISSING) for entry in self.entries]

    def ids(self) -> list:
        """Return the ids of the entries, all text or all numbers; some may be there twice."""
        ids = self.column("id")
        for index, value in enumerate(ids):
            if fault := id_fault(value, ids[0], self.policy):
                self.fail(index, fault)
        return ids

    def unique_ids(self) -> list:
        """Return the ids of the entries, all different."""
        ids = self.ids()
        if again := repeated(ids):
            self.fail(again[0], TWICE)
        return ids

    def id_array(self) -> np.ndarray:
        """(N,) int64, or text as objects: the ids, all different. Numbers must be whole."""
        ids = self.unique_ids()
        return np.array(ids, dtype=object if isinstance(ids[0], str) else np.int64)

    def images(self, known: np.ndarray, where: str) -> np.ndarray:
        """(N,) int32: places of the image ids in `known`, ids of the file that `where` names."""
        places = places_of(known)
        found = columns.places(self.column("image_id"), places, self.policy)
        self.require(
            found >= 0,
            lambda e: image_id_fault(e.get("image_id", MISSING), places, self.policy, where),
        )
        return found

    def categories(self, known: np.ndarray) -> np.ndarray:
        """(N,) int32: places of the category ids in `known`."""
        places = places_of(known)
        found = columns.places(self.column("category_id"), places, self.policy)
        self.require(
            found >= 0,
            lambda e: category_id_fault(e.get("category_id", MISSING), places, self.policy),
        )
        return found

    def numbers(self, key: str, rule: Callable[[Any, Policy], Fault | None]) -> np.ndarray:
        """(N,) float64, all finite."""
        array = columns.numbers(self.column(key))
        self.require(np.isfinite(array), lambda entry: rule(entry.get(key, MISSING), self.policy))
        return array

    def boxes(self) -> np.ndarray:
        """(N, 4) float64: x, y, width, height."""
        array = columns.boxes(self.column("bbox"))
        right = columns.are_boxes(array)
        self.require(right, lambda entry: box_fault(entry.get("bbox", MISSING), self.policy))
        return array


def places_of(ids: np.ndarray) -> dict[Any, int]:
    """Return the place of each id."""
    return {value: place for place, value in enumerate(ids.tolist())}


TWICE = "another entry before it has the same id"


def repeated(ids: Collection) -> list[int]:
    """Return the places of ids that were there before."""
    if len(set(ids)) == len(ids):
        return []
    seen: set = set()
    again = []
    for index, value in enumerate(ids):
        if value in seen:
            again.append(index)
        seen.add(value)
    return again


def read_json(path: Path, plain: bool = False) -> Any:
    """Read a JSON file, gzip'd or not.

    Args:
        path: the file.
        plain: take UTF-8 only, and nothing that is packed: all that Detectron2 reads.

    Raises:
        OSError: the file cannot be read.
        DataError: it holds something else, or unpacks to more than 4 GiB.
    """
    content = path.read_bytes()
    try:
        if not plain and content.startswith(b"\x1f\x8b"):
            content = _unpacked(content)
        return _parsed(content, plain)
    except UnicodeDecodeError as error:
        packed = {b"PK": "a zip archive", b"\x1f\x8b": "gzip data"}.get(content[:2])
        what = f"{packed}; unpack it" if packed else f"not valid UTF-8 (byte {error.start})"
        raise DataError(f"{path}: not a JSON file: {what}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}{_where_it_ends(error)}") from None


def _where_it_ends(error: Exception) -> str:
    """Say of a file that is cut off, or empty, that it ends too early."""
    if not isinstance(error, json.JSONDecodeError):
        return ""
    ended = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    return "; the file ends too early" if ended else ""


def _parsed(content: bytes, plain: bool) -> Any:
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        # json takes NaN, half a letter ("\ud800") and UTF-16, too, and its errors name the line.
        if plain and content.startswith(codecs.BOM_UTF8):
            raise ValueError("starts with a byte order mark; save it as UTF-8 without") from None
        return json.loads(content.decode("utf-8") if plain else content)


@contextmanager
def collector_off() -> Iterator[None]:
    """Spare millions of new objects, none of them in a cycle, the garbage collector's search."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as unpacked:
            data = unpacked.read(MAX_UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip data: {error}") from error
    if len(data) > MAX_UNPACKED:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED / 2**30:g} GiB")
    return data
