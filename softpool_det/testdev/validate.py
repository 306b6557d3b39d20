"""Streams a result file past all checks, in little memory whatever its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ijson
from tqdm import tqdm

from softpool_det.coco.checks import shorten
from softpool_det.testdev.entry_checks import EntryChecks
from softpool_det.testdev.image_info import ImageInfo
from softpool_det.testdev.layout import (
    DAMAGE,
    TESTSET,
    archive_problem,
    content_bytes,
    expected_name,
    open_results,
)
from softpool_det.testdev.violations import Tally

# What a zip holds without its 64-bit extension, which not every unpacker reads.
MAX_BYTES = 2**32 - 1
_ARRAY = "one JSON array of detections"


@dataclass(frozen=True)
class ValidationReport:
    """What a result file holds, and what is wrong with it.

    Args:
        path: the file.
        bytes: its size; of a zip, as it lies on the disk.
        content_bytes: size of the JSON.
        entries: detections read.
        boxes, masks: entries with a bbox and with a segmentation.
        images: images of the image_info.
        images_with_detections: those that the file speaks of.
        most_detections: the largest number in one image.
        corner_boxes: boxes outside their image that would fit as x1, y1, x2, y2.
        violations: all counted, the first ones kept.
    """

    path: Path
    bytes: int
    content_bytes: int
    entries: int
    boxes: int
    masks: int
    images: int
    images_with_detections: int
    most_detections: int
    corner_boxes: int
    violations: Tally


def validate_results(
    path: Path,
    info: ImageInfo,
    testset: str = TESTSET,
    check_name: bool = True,
    max_reported: int = 20,
) -> ValidationReport:
    """Check a result file entry by entry, without holding it in memory.

    Args:
        path: a JSON file, or a zip of one.
        info: images and categories, see :func:`softpool_det.testdev.read_image_info`.
        testset: the set's name inside the file's name.
        check_name: whether the file's name counts.
        max_reported: how many violations are kept; all are counted.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"result file not found: {path}")
    tally = Tally(max_reported)
    name = expected_name(path, testset) if check_name else None
    if name:
        tally.add("name", path.name, name)
    checks = EntryChecks(info, tally)
    problem = archive_problem(path) if path.suffix == ".zip" else None
    if problem:
        tally.add("file", *problem)
        size = entries = 0
    else:
        size = content_bytes(path)
        try:
            entries = _read(path, size, checks, tally)
        except DAMAGE as error:
            tally.add("file", f"a zip that cannot be unpacked: {error}", "a zip that is whole")
            entries = 0
    return ValidationReport(
        path=path,
        bytes=path.stat().st_size,
        content_bytes=size,
        entries=entries,
        boxes=checks.boxes,
        masks=checks.masks,
        images=len(info.sizes),
        images_with_detections=sum(1 for number in checks.detections if number),
        most_detections=max(checks.detections),
        corner_boxes=checks.corner_boxes,
        violations=tally,
    )


def _read(path: Path, size: int, checks: EntryChecks, tally: Tally) -> int:
    """Check every entry; returns how many there are."""
    if size > MAX_BYTES:
        tally.add("file", f"{size} bytes", f"at most {MAX_BYTES}, what a zip takes without ZIP64")
    with open_results(path) as file:
        start = file.read(64).lstrip()
        file.seek(0)
        if not start.startswith(b"["):
            tally.add("file", f"JSON that starts {shorten(start[:20])}", _ARRAY)
            return 0
        # disable=None: no bar without a terminal.
        with tqdm.wrapattr(file, "read", total=size, desc=path.name, disable=None) as stream:
            entries = _check_entries(stream, checks, tally)
    if entries == 0 and not tally.by_field["JSON"]:
        tally.add("file", "an array without entries", "at least one detection")
    return entries


def _check_entries(stream: IO[bytes], checks: EntryChecks, tally: Tally) -> int:
    entries = 0
    # The C backend by name: the one in Python would take an hour.
    backend = ijson.get_backend("yajl2_c")
    try:
        for entry in backend.items(stream, "item", use_float=True, buf_size=2**20):
            checks.check(entries, entry)
            entries += 1
    except ijson.JSONError as error:
        found = " ".join(str(error).split())
        expected = f"{_ARRAY} (NaN and Infinity are not JSON); nothing after this was read"
        tally.add("JSON", f"broken here: {found}", expected, entries)
    return entries


def report_text(report: ValidationReport) -> str:
    """Format the report: what the file holds, then the violations that were kept."""
    size = f"{report.content_bytes / 1e6:,.1f} MB"
    if report.path.suffix == ".zip":
        size += f" ({report.bytes / 1e6:,.1f} MB zipped)"
    each = report.content_bytes / max(report.entries, 1)
    lines = [
        f"{report.path}: {size}",
        f"{report.entries:,} entries ({report.boxes:,} with bbox, {report.masks:,} with "
        f"segmentation), {each:,.0f} bytes each",
        f"{report.images_with_detections:,} of {report.images:,} images have detections, "
        f"{report.most_detections} at most",
    ]
    found = report.violations
    if not found.total:
        return "\n".join([*lines, "valid: no violations"])
    fields = ", ".join(f"{field} {count:,}" for field, count in found.by_field.most_common())
    lines.append(f"NOT VALID: {found.total:,} violations ({fields})")
    if report.corner_boxes:
        lines.append(
            f"{report.corner_boxes:,} boxes would fit as x1, y1, x2, y2: write x, y, width, height"
        )
    lines += [f"  {violation}" for violation in found.kept]
    hidden = found.total - len(found.kept)
    if hidden:
        lines.append(f"  ... and {hidden:,} more (--max-reported shows more)")
    return "\n".join(lines)
