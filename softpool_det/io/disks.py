"""Full or read-only disks, reported in one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Only writing ends with these. Other errors have a file's name, or may be of a file that is read.
_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` where a full or read-only disk ends the writing of it.

    The system's own error names no file, or a temporary one that is gone by then.

    Raises:
        OSError: one line with the path and the free space.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        free = _free_bytes(path) / 2**20
        raise OSError(
            f"{path} cannot be written ({free:.0f} MiB are free now): {reason}"
        ) from error


def _reason(error: BaseException | None) -> str | None:
    # A torch.save to an open file fails once more when it closes its archive (a RuntimeError).
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    # One that was named already has no number.
    if error is None or error.errno not in _WRITING:
        return None
    return os.strerror(error.errno)


def _free_bytes(path: Path) -> int:
    there = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(there).free
