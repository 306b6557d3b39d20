"""The image files of a data set, by their headers: nothing is decoded."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from softpool_det.data_check.findings import LEFT_OUT, MEND, Finding
from softpool_det.io.images import ImageError, check_header, explain_size, read_header

_PLAIN_MODES = ("RGB", "L")
_SKIP = f"mend or remove it; {LEFT_OUT}"


def image_findings(path: Path, data: dict[str, Any], folder: Path) -> list[Finding]:
    """Open every image of an annotation file, with a progress bar on stderr."""
    images = data["images"]
    if not any(os.path.exists(folder / image["file_name"]) for image in images):
        reason = f"none of its {len(images)} images is in {folder}: {images[0]['file_name']}, ..."
        return [Finding(str(path), "", reason, "name the folder that file_name starts from")]
    bar = tqdm(images, desc=f"{folder.name or folder}: images", unit="", leave=False, disable=None)
    return [
        finding
        for place, image in enumerate(bar)
        for finding in _of_image(path, place, image, folder)
    ]


def _of_image(path: Path, place: int, image: dict[str, Any], folder: Path) -> Iterator[Finding]:
    file = folder / image["file_name"]
    entry = f"entry {place} of images (id {image['id']!r:.40})"
    finding = partial(Finding, str(path), entry, image=place)
    try:
        if file.exists() and not file.is_file():
            raise ImageError(f"{file}: it is not a regular file")
        header, mode = read_header(file), check_header(file)
        # As a training does with images whose annotation has none.
        width = image["width"] = image.get("width") or header.size[0]
        height = image["height"] = image.get("height") or header.size[1]
        if (width, height) != header.size:
            yield finding(f"{file}: {explain_size(file, (width, height))}", MEND)
            return
    except FileNotFoundError:
        yield finding(f"file not found: {file}", _SKIP)
        return
    except (ImageError, OSError) as error:
        reason = str(error).removeprefix(f"{file}: ").removeprefix(f"{file} ")
        yield finding(f"{file}: {reason}", _SKIP)
        return
    if header.orientation != 1:
        reason = f"{file}: EXIF orientation {header.orientation} turns it"
        remedy = "look at its picture: boxes must be of the turned image"
        yield finding(reason, remedy, is_fault=False)
    if mode not in _PLAIN_MODES:
        reason = f"{file}: its mode is {mode}, it is read as 8-bit RGB"
        yield finding(reason, "nothing to do, if that looks right", is_fault=False)


def same_content(files: dict[str, list[Path]]) -> list[tuple[Path, Path]]:
    """Pairs of files of one content, of two sets or of one; only files of one size are read.

    Args:
        files: by set; those that are not there are passed over.
    """
    by_size = defaultdict(list)
    for path in dict.fromkeys(path for paths in files.values() for path in paths):
        with contextlib.suppress(OSError):  # said of the image already
            if path.is_file():
                by_size[path.stat().st_size].append(path)
    first: dict[bytes, Path] = {}
    pairs = []
    for paths in by_size.values():
        for path in paths if len(paths) > 1 else []:
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest in first:
                pairs.append((first[digest], path))
            first.setdefault(digest, path)
    return pairs
