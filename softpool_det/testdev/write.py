"""Result files in the historic layout: the JSON, and a zip of the same stem with it inside."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from softpool_det.io.atomic import replacing
from softpool_det.io.disks import naming
from softpool_det.testdev.layout import TESTSET, open_results, result_stem

_BLOCK = 2**20


def write_submission(
    results: Path, folder: Path, alg: str, testset: str = TESTSET
) -> tuple[Path, Path]:
    """Write `detections_<testset>_<alg>_results.json` and `.zip` into a folder.

    The content is copied as it is, a block at a time; the same results give the same bytes. Each
    file appears whole or not at all.

    Args:
        results: a result file: Detectron2's `coco_instances_results.json`, or any other, or a zip
            of one.
        folder: made where it is not there.
        alg: the algorithm's name, as the server listed it.
        testset: the set's name.

    Returns:
        Paths of the JSON and of the zip.

    Raises:
        FileNotFoundError: the file `results` does not exist.
        OSError: a file cannot be written; the text names it.
        ValueError: `alg` cannot be part of the name, or `results` is a zip of several files.
    """
    stem = result_stem(alg, testset)
    json_file, zip_file = folder / f"{stem}.json", folder / f"{stem}.zip"
    with (
        open_results(results) as source,
        replacing(zip_file) as archive,
        replacing(json_file) as copy,
    ):
        with copy.open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
        with naming(zip_file):  # else the error is of the JSON, which is whole by now
            _zip(copy, archive)
        # A kill between the two new files must not leave an old zip beside a new JSON.
        zip_file.unlink(missing_ok=True)
    return json_file, zip_file


def _zip(path: Path, archive: Path) -> None:
    # A ZipInfo made by hand has no time of day in it.
    member = zipfile.ZipInfo(path.name)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    # Known beforehand, it decides whether the 64-bit extension is needed.
    member.file_size = path.stat().st_size
    with (
        zipfile.ZipFile(archive, "w") as file,
        path.open("rb") as source,
        file.open(member, "w") as target,
    ):
        shutil.copyfileobj(source, target, _BLOCK)
