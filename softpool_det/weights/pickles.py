"""Pickled weights: from where they are taken, and what is wrong with them before they are read."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlparse

from detectron2.checkpoint.catalog import ModelCatalog, ModelCatalogHandler
from detectron2.utils.file_io import Detectron2Handler

from softpool_det.io.archives import find_damage

# Detectron2's catalogue and model zoo, by their short names and by their addresses.
TRUSTED_PREFIXES = (
    Detectron2Handler.PREFIX,
    Detectron2Handler.S3_DETECTRON2_PREFIX,
    ModelCatalogHandler.PREFIX,
    f"{ModelCatalog.S3_C2_DETECTRON_PREFIX}/",
)


def is_of_zoo(path: str) -> bool:
    """Whether a file is named by its address in Detectron2's catalogue or model zoo."""
    # Through ".." an address would lead out of the folder of downloads, to any file that is here.
    return path.startswith(TRUSTED_PREFIXES) and ".." not in path.split("/")


def check_origin(path: str, trust_pickle: bool = False, file: str | Path = "") -> None:
    """Refuse a `.pkl` that is not named by its address in Detectron2's catalogue or model zoo.

    Args:
        path: a path or URL, as the user gave it.
        trust_pickle: take any.
        file: that it led to on this machine, where that is known.

    Raises:
        PermissionError: the file is a pickle of unknown origin; says what to do.
    """
    if trust_pickle or is_of_zoo(path):
        return
    # Programs differ in what they take for the file's name where there is a #, a ; or a ?.
    names = (path, urlparse(path).path, re.split("[#;?]", path)[0], str(file))
    if any(name.lower().endswith(".pkl") for name in names):
        raise PermissionError(
            f"{path} is a pickle from outside Detectron2's model zoo. Name a file of the zoo by "
            f"its address ({Detectron2Handler.PREFIX}...). If you know where this one comes from, "
            "pass --trust-pickle to softpool-train or softpool-convert-weights"
        )


def find_fault(file: Path) -> str | None:
    """Look through an archive of torch.save's before torch.load unpacks it.

    Returns:
        What is wrong with the file's bytes, or None; None for files of other formats, too.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        is_archive = stream.read(4) == b"PK\x03\x04"
    return find_damage(file) if is_archive else None


def reason_of(error: BaseException) -> str:
    """Return why a reader of weights refused a file, in a few words.

    torch.load's own message explains how to bypass the check.
    """
    text = str(error) or type(error).__name__
    found = re.search(r"WeightsUnpickler error:\s*(.+?)( was not an allowed|$)", text, re.MULTILINE)
    return found[1] if found else text.splitlines()[0]
