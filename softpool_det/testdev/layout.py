"""Names and containers of result files, as COCO's server took them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TESTSET = "test-dev2017"
_ALG = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def result_stem(alg: str, testset: str = TESTSET) -> str:
    """The file name without its suffix: `detections_<testset>_<alg>_results`.

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
    """What the file should be called, or None where its name is right."""
    pattern = rf"detections_{re.escape(testset)}_{_ALG}_results\.(json|zip)"
    if re.fullmatch(pattern, path.name):
        return None
    return f"detections_{testset}_<alg>_results.json, or .zip"


def archive_problem(path: Path) -> tuple[str, str] | None:
    """What is wrong with a zip, and what would be right; None if it can be read.

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
        return f"a zip of {len(names)}: {', '.join(names[:3])}", right
    if members[0].flag_bits & 1:
        return "an encrypted zip", right
    return None


@contextmanager
def open_results(path: Path) -> Iterator[IO[bytes]]:
    """Open the JSON of a result file for reading: the file itself, or the one member of a zip.

    Raises:
        FileNotFoundError: there is no such file.
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
