"""What the C library does with freed blocks, which on Linux decides how long a pooling takes.

glibc gives a large block back to the system when it is freed. The next call gets new pages, and
each costs a page fault, about a microsecond for 4 KiB: more than pooling them. `kept` turns that
off, as jemalloc and tcmalloc do by themselves; `default` is glibc as it comes.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable

SETTINGS = ("default", "kept")
# The numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def available() -> tuple[str, ...]:
    """The settings that can be had here: `kept` needs glibc."""
    return SETTINGS if platform.libc_ver()[0] == "glibc" else SETTINGS[:1]


def use(setting: str) -> None:
    """Set the process's allocator, before anything large is allocated.

    Raises:
        ValueError: `kept` where the C library is not glibc.
        RuntimeError: glibc refused.
    """
    if setting != "kept":
        return
    if setting not in available():
        raise ValueError("the allocator setting 'kept' needs Linux with glibc; use 'default'")
    mallopt = ctypes.CDLL(None).mallopt
    # No block by mmap, and -1: the heap's end is never given back.
    for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
        if mallopt(parameter, value) != 1:
            raise RuntimeError(f"mallopt({parameter}, {value}) failed: measure with 'default'")


def touch(count: int) -> None:
    """Bring in so many bytes and free them: with `kept`, the heap then has them ready.

    Else the first calls would, and later ones that find the heap cut up differently.
    """
    # Of one byte repeated, which Python writes in one go.
    block = b"x" * count
    del block


def page_faults(function: Callable[[], object]) -> int | None:
    """Pages that one call makes the system bring in; None where that is not counted."""
    if sys.platform == "win32":
        return None
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
