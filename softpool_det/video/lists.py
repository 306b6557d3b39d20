"""Lists of labelled videos: UCF-101, Kinetics, HACS Clips and PySlowFast, through one reader."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from softpool_det.io.data_errors import DataError
from softpool_det.io.video import open_video

logger = logging.getLogger(__name__)

_SUFFIXES = (".avi", ".mkv", ".mp4", ".webm")
# The names of one column in the lists of Kinetics, HACS Clips and the authors' cut HACS.
_COLUMNS = {
    "label": ("classname", "label"),
    "id": ("youtube_id", "id"),
    "start": ("time_start", "start"),
    "end": ("time_end", "end"),
    "split": ("split", "subset"),
}

SOURCES = """\
UCF-101: https://www.crcv.ucf.edu/data/UCF101.php, UCF101.rar and UCF101TrainTestSplits-*.zip.
Kinetics-700: https://github.com/cvdfoundation/kinetics-dataset. HACS Clips:
https://github.com/hangzhaomit/HACS-dataset. Moving digits need no download (docs/video.md)."""


class Clip(NamedTuple):
    """A labelled part of a video file."""

    path: str
    start: float | None  # seconds; None: the whole file
    end: float | None
    label: int  # index into the list's classes


@dataclass(frozen=True)
class ClipList:
    """What a list names and the disk holds.

    Args:
        clips: in the list's order.
        classes: names by label.
        missing: files that are not there, or cannot be opened.
    """

    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]


# A path that may be missing, start, end, class.
_Row = tuple[str, float | None, float | None, str]


def read_clips(
    file: str | Path,
    videos: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    opened: bool = False,
) -> ClipList:
    """Read a list of labelled videos; its layout is recognised by what it holds.

    - UCF-101's `trainlist01.txt` and `testlist01.txt`, with `classInd.txt` beside them. Folders are
      the labels.
    - Kinetics' csv. Files `<id>_<start, 6 digits>_<end, 6 digits>.*` lie anywhere below `videos`.
    - HACS Clips' csv, of which the positive clips are taken: seconds of whole videos `v_<id>.*`
      anywhere below `videos`, or files that were cut, named as Kinetics'.
    - PySlowFast's: a path, absolute or below `videos`, a space or a comma, and a label from 0.

    Args:
        file: the list.
        videos: the folder of the files.
        split: "train", "val" or "test", to take those rows of a csv alone, also where it has
            "training" and the like.
        classes: of the training's list, for the others of the same data; None: this one's, sorted.
        opened: open each file (milliseconds) and take those alone that are videos.

    Raises:
        FileNotFoundError: the list is missing, or all of its files; with where to get data.
        DataError: it has none of those layouts, or a class that is not in `classes`.
    """
    path, folder = Path(file), Path(videos)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, must be a list of videos.\n{SOURCES}")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    index = path.with_name("classInd.txt")
    if set(next(csv.reader(lines[:1]), [])) & set(_COLUMNS["id"]):
        rows = list(_csv_rows(path, lines, folder, split))
    elif index.is_file():
        files = [line.split()[0] for line in lines if line.strip()]
        rows = [(str(folder / name), None, None, name.partition("/")[0]) for name in files]
        classes = classes or [line.split()[1] for line in index.read_text().splitlines() if line]
    else:
        rows = list(_path_rows(path, lines, folder))
        largest = max((int(label) for *_, label in rows), default=-1)
        classes = classes or [str(label) for label in range(largest + 1)]
    if not rows:
        raise DataError(f"{path} names no videos of that split, or none at all")
    return _found(path, rows, classes or sorted({name for *_, name in rows}), opened)


def _csv_rows(path: Path, lines: list[str], folder: Path, split: str | None) -> Iterator[_Row]:
    files = {
        os.path.splitext(name)[0]: os.path.join(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(_SUFFIXES)
    }
    reader = csv.DictReader(lines)
    columns = {
        key: next((name for name in names if name in (reader.fieldnames or ())), None)
        for key, names in _COLUMNS.items()
    }
    if lacking := [key for key, name in columns.items() if not name and key != "split"]:
        raise DataError(f"{path} lacks the column {' or '.join(_COLUMNS[lacking[0]])}")
    for row in reader:
        value = {key: row[name] or "" for key, name in columns.items() if name}
        # HACS marks by -1 what is not of the class.
        is_negative = columns["label"] == "classname" and row.get("label") == "-1"
        if is_negative or (split and not value.get("split", split).startswith(split)):
            continue
        try:
            start, end = float(value["start"]), float(value["end"])
        except ValueError:
            raise DataError(f"{path}, line {reader.line_num}: no times in {row}") from None
        if not value["label"]:
            raise DataError(f"{path}, line {reader.line_num}: no label, as in lists for tests")
        name, cut = value["id"], f"{value['id']}_{int(start):06d}_{int(end):06d}"
        whole = files.get(f"v_{name}") or files.get(name)
        if cut in files or not whole:
            yield files.get(cut, str(folder / cut)), None, None, value["label"]
        else:
            yield whole, start, end, value["label"]


def _path_rows(path: Path, lines: list[str], folder: Path) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"(.+)[ ,](\d+)", line.strip())
        if match:
            yield str(folder / match[1]), None, None, str(int(match[2]))
        elif line.strip():
            raise DataError(
                f"{path}, line {number}: {line!r:.80} is no path with a label from 0 behind it, "
                "and the list is no csv of Kinetics or HACS and has no classInd.txt beside it"
            )


def _is_video(path: str) -> bool:
    try:
        with open_video(path):
            return True
    except (OSError, ValueError):
        return False


def _found(path: Path, rows: list[_Row], classes: Sequence[str], opened: bool) -> ClipList:
    labels = {name: label for label, name in enumerate(classes)}
    if unknown := next((name for *_, name in rows if name not in labels), None):
        raise DataError(f"{path} has the class {unknown!r}, none of the {len(classes)} classes")
    is_usable = _is_video if opened else os.path.isfile
    is_there = {name: is_usable(name) for name in dict.fromkeys(row[0] for row in rows)}
    missing = tuple(name for name in is_there if not is_there[name])
    if len(missing) == len(is_there):
        raise FileNotFoundError(
            f"none of the {len(missing)} videos of {path} is there: {missing[0]}, ...\n{SOURCES}"
        )
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        count = f"{len(missing)} of the {len(is_there)} videos"
        logger.warning("%s of %s are missing or broken: %s", count, path, names)
    clips = tuple(Clip(n, start, end, labels[c]) for n, start, end, c in rows if is_there[n])
    return ClipList(clips, tuple(classes), missing)
