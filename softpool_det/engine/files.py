"""Files that are either whole or not there."""

from __future__ import annotations

import difflib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path of the same name beside `path`; what was written to it becomes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, path.name)
        yield temporary
        os.replace(temporary, path)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` by way of a temporary file beside it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim(path: Path, identity: str) -> None:
    """Let `path` say whose folder it lies in: write `identity` to it, or compare.

    Raises:
        FileExistsError: the file holds another identity; the text shows the lines that differ.
    """
    if not path.is_file():
        write_atomically(path, identity)
        return
    before = path.read_text()
    if before != identity:
        changes = difflib.unified_diff(before.splitlines(), identity.splitlines(), n=0, lineterm="")
        lines = [line for line in changes if line[:3] not in ("---", "+++") and line[:2] != "@@"]
        raise FileExistsError(
            f"{path.parent} holds a run of another config (- then, + now):\n  "
            + "\n  ".join(lines[:20])
            + "\nChoose another output folder, or delete this one to train anew."
        )


def write_json(path: Path, data: dict) -> None:
    """Write `data` atomically, NaN as null: JSON has no NaN."""
    write_atomically(path, json.dumps(_without_nan(data), indent=2, allow_nan=False) + "\n")


def _without_nan(data):
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and math.isnan(data) else data
