"""Atomic writes of files and folders, which survive a kill or a power cut."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softpool_det.io.disks import naming

# No name of a machine has an @, as many have hyphens and end like another's; tempfile adds letters.
_PARTIAL = ".partial-{name}@{host}@{pid}@"


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, on the same file system, to build `path` in.

    Folders that killed processes of this machine left beside `path` are removed: what they were to
    become may never be written again.

    Raises:
        OSError: the disk is full or read-only; one line with `path` and the free space.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        prefix = _PARTIAL.format(name=path.name, host=socket.gethostname(), pid=os.getpid())
        try:
            temporary = tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent)
        except OSError as error:
            error.filename = str(path)  # not the temporary name, which nobody knows
            raise
        with temporary as folder:
            yield Path(folder)


def _remove_abandoned(parent: Path) -> None:
    names = _PARTIAL.format(name=".*", host=re.escape(socket.gethostname()), pid=r"(\d+)")
    for folder in parent.glob(".partial-*"):
        match = re.fullmatch(f"{names}[^@]+", folder.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same name beside `path`; its content becomes `path`.

    The bytes are on the disk before the name is (fsync): not even a power cut leaves a part.
    """
    with partial_folder(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        if temporary.stat().st_mode != mode:
            # safetensors makes its files private; others may read a new file's.
            temporary.chmod(mode)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)


@contextmanager
def replacing_within(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; its files move there, each atomically."""
    with partial_folder(folder) as temporary:
        yield temporary
        folder.mkdir(exist_ok=True)
        for path in temporary.iterdir():
            _sync(path)
            os.replace(path, folder / path.name)
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            + "\nChoose another output folder, or delete this one to start over."
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
