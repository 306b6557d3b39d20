"""Write torch.save's archives atomically, and verify their checksums."""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from softpool_det.io.atomic import replacing
from softpool_det.io.errors import error_text

# What the two readers raise of any bit that changed (tests/io/test_archives.py).
_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error)
# Those of a RuntimeError: a file of torch.save's is not encrypted.
_OF_BYTES = ("PytorchStreamReader failed", "File ")


def save_archive(path: Path, state: dict[str, Any]) -> None:
    """torch.save of `state` to `path`, atomically.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:
        # That is how torch says that a disk is full.
        free = shutil.disk_usage(path.parent).free
        text = error_text(error).splitlines()[0]
        raise OSError(
            f"{path} cannot be written ({free / 2**20:.0f} MiB are free now): {text}"
        ) from error


def find_damage(path: Path) -> str | None:
    """Return what is wrong with the bytes of a checkpoint, or None.

    torch.save writes a zip archive with checksums, which torch.load does not look at; of what
    describes the archive, torch.load looks at more than zipfile. What a whole archive holds is not
    judged here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > path.stat().st_size:
                # Made to fill the memory, by compression or by members that share their bytes.
                problem = f"it would unpack to {size} bytes, more than it has"
                return f"{problem}; torch.save never compresses"
            damaged = archive.testzip() or _folder(archive)
        if damaged is None:
            torch.load(path, "meta", mmap=True)
    except pickle.UnpicklingError as error:
        # The other errors of the kind are of a pickle that is whole.
        return "it is damaged (no pickle)" if "Unsupported operand" in str(error) else None
    except _DAMAGE as error:
        text = error_text(error).splitlines()[0]
        # torch refuses archives of other kinds with a RuntimeError, too.
        is_damage = type(error) is not RuntimeError or text.startswith(_OF_BYTES)
        return f"it is cut off or damaged ({text})" if is_damage else None
    return None if damaged is None else f"{damaged} in it is damaged"


def first_whole(paths: Iterable[Path], log: logging.Logger) -> Path | None:
    """The first checkpoint that is whole, or None; damaged ones are named and passed over."""
    for path in paths:
        damage = find_damage(path)
        if damage is None:
            return path
        log.warning("passed over: %s: %s", path, damage)
    return None


def _folder(archive: zipfile.ZipFile) -> str | None:
    """Find an entry that claims to be a folder: torch.load gives its tensor unset memory."""
    dos_directory = 0x10
    marked = (e.filename for e in archive.infolist() if e.external_attr & dos_directory)
    return next(marked, None)
