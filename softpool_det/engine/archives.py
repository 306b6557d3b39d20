"""What torch.save writes: whole or not there, and looked through for damage."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from softpool_det.files import replacing


def save_archive(path: Path, state: dict[str, Any]) -> None:
    """torch.save of `state` to `path`, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:
        # That is how torch says that a disk is full.
        free = shutil.disk_usage(path.parent).free
        text = str(error).splitlines()[0]
        raise OSError(
            f"{path} cannot be written ({free / 2**20:.0f} MiB are free now): {text}"
        ) from error


def find_damage(path: Path) -> str | None:
    """What is wrong with the bytes of a checkpoint, or None.

    torch.save writes a zip archive with checksums, which torch.load does not look at.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return f"it is cut off or damaged ({error})"
    return None if damaged is None else f"{damaged} in it is damaged (its checksum differs)"
