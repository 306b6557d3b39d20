"""Names and containers of result files, as COCO's server took them."""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from softpool_det.coco.checks import shorten

TESTSET = "test-dev2017"
# A zip may unpack to that much, or to that many times its size. Deflate makes a thousand times of
# one value without end, which no reader could hold, but nothing like it of numbers that differ.
SMALL_BYTES = 2**26
MAX_RATIO = 100
# What reading a zip's member raises where its bytes are not what they should be.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
_ALG = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def result_stem(alg: str, testset: str = TESTSET) -> str:
    """Return the file name without its suffix: `detections_<testset>_<alg>_results`.

    Raises:
        ValueError: `alg` has other characters than letters, digits, dots, dashes and underscores,
            or begins with a mark.
    """
    if not re.fullmatch(_ALG, alg):
        raise ValueError(
            f"alg must be letters, digits, '.', '-' and '_', a letter or digit first, got {alg!r}"
        )
    return f"detections_{testset}_{alg}_results"


def expected_name(path: Path, testset: str = TESTSET) -> str | None:
    """Return what the file should be called, or None where its name is right."""
    pattern = rf"detections_{re.escape(testset)}_{_ALG}_results\.(json|zip)"
    if re.fullmatch(pattern, path.name):
        return None
    return f"detections_{testset}_<alg>_results.json, or .zip"


def archive_problem(path: Path) -> tuple[str, str] | None:
    """Describe what is wrong with a zip, and what would be right; None if it can be read.

    The server unpacked one JSON file, at the top and with the zip's own stem.
    """
    right = f"a zip that holds {path.stem}.json and nothing else"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        return f"not a zip: {error}", right
    names = [member.filename for member in members]
    if names != [f"{path.stem}.json"]:
        # repr: a name may hold what a terminal takes for a command.
        return f"a zip of {len(names)}: {', '.join(map(shorten, names[:3]))}", right
    if members[0].flag_bits & 1:
        return "an encrypted zip", right
    size, packed = members[0].file_size, path.stat().st_size
    if size > max(SMALL_BYTES, MAX_RATIO * packed):
        return f"{packed} bytes that unpack to {size}", f"at most {MAX_RATIO} times its size"
    return None


@contextmanager
def open_results(path: Path) -> Iterator[IO[bytes]]:
    """Open the JSON of a result file for reading: the file itself, or the one member of a zip.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a zip does not hold exactly one file.
    """
    if path.suffix != ".zip":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"{path} must hold one JSON file, it holds {len(names)}")
        with archive.open(names[0]) as member:
            yield member


def content_bytes(path: Path) -> int:
    """Size of the JSON, unpacked."""
    if path.suffix != ".zip":
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())
