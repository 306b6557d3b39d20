"""Lists of labelled videos: UCF-101, Kinetics, HACS Clips and PySlowFast, through one reader."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from softpool_det.io.data_errors import DataError
from softpool_det.video.clips import Clip, read_clip

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
# Files are opened at the same time, for disks are slow and most of decoding runs without the GIL.
_THREADS = 16

SOURCES = """\
UCF-101: https://www.crcv.ucf.edu/data/UCF101.php, UCF101.rar and UCF101TrainTestSplits-*.zip.
Kinetics-700: https://github.com/cvdfoundation/kinetics-dataset. HACS Clips:
https://github.com/hangzhaomit/HACS-dataset. Moving digits need no download (docs/video.md)."""


class _Row(NamedTuple):
    label: str
    name: str  # of the file, below the folder of videos
    # Names, without suffix, that it may have anywhere below: of the cut clip, of whole videos.
    others: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None


def read_classes(file: str | Path, split: str | None = None) -> list[str]:
    """The classes of a list, by label; videos need not be there. See `read_clips`."""
    return _read(Path(file), split)[1]


def read_clips(
    file: str | Path,
    videos: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[list[Clip], list[str]]:
    """Read a list of labelled videos; its layout is recognised by what it holds.

    - UCF-101's `trainlist01.txt` and `testlist01.txt`, with `classInd.txt` beside them. Folders are
      the labels.
    - Kinetics' csv. Files `<id>_<start, 6 digits>_<end, 6 digits>.*` lie anywhere below `videos`.
    - HACS Clips' csv, of which the positive clips are taken: seconds of whole videos `v_<id>.*`
      anywhere below `videos`, or files that were cut, named as Kinetics'.
    - PySlowFast's: a path, absolute or below `videos`, a space or a comma, and a label from 0.

    A frame of each file is decoded (milliseconds). Clips without one are named in a warning.

    Args:
        file: the list.
        videos: the folder of the files.
        split: "train", "val" or "test", to take those rows of a csv alone, also where it has
            "training" and the like.
        classes: of the training's list, for the others of the same data; None: this one's.

    Returns:
        The clips that can be read, in the list's order, and the classes.

    Raises:
        FileNotFoundError: the list is missing, or all of its files; with where to get data.
        DataError: it has none of those layouts, or a class that is not in `classes`.
    """
    path, folder = Path(file), Path(videos)
    rows, own = _read(path, split)
    labels = {name: label for label, name in enumerate(classes or own)}
    if unknown := next((row.label for row in rows if row.label not in labels), None):
        raise DataError(f"{path} has the class {unknown!r}, none of the {len(labels)} classes")
    files: dict[str, str] = {}
    if any(row.others for row in rows):
        files = {
            os.path.splitext(name)[0]: os.path.join(place, name)
            for place, _, names in os.walk(folder, followlinks=True)
            for name in names
            if name.lower().endswith(_SUFFIXES)
        }
    clips = []
    for row in rows:
        name = next((name for name in row.others if name in files), row.name)
        times = (row.start, row.end) if name in row.others[1:] else (None, None)
        clips.append(Clip(files.get(name, str(folder / name)), *times, labels[row.label]))
    return _readable(path, clips), list(labels)


def _read(path: Path, split: str | None) -> tuple[list[_Row], list[str]]:
    """The rows of a list and its classes, by label."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, must be a list of videos.\n{SOURCES}")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    index, classes = path.with_name("classInd.txt"), None
    if set(next(csv.reader(lines[:1]), [])) & set(_COLUMNS["id"]):
        rows = list(_csv_rows(path, lines, split))
    elif index.is_file():
        names = [line.split()[0] for line in lines if line.strip()]
        rows = [_Row(name.partition("/")[0], name) for name in names]
        entries = [line.split() for line in index.read_text().splitlines() if line.strip()]
        if not all(len(entry) == 2 for entry in entries):
            raise DataError(f"{index} must have a number and a class in each line")
        classes = [name for _, name in entries]
    else:
        rows = list(_path_rows(path, lines))
        classes = [str(label) for label in range(max((int(r.label) for r in rows), default=-1) + 1)]
    if not rows:
        raise DataError(f"{path} names no videos of that split, or none at all")
    return rows, classes or sorted({row.label for row in rows})


def _csv_rows(path: Path, lines: list[str], split: str | None) -> Iterator[_Row]:
    reader = csv.DictReader(lines)
    columns = {
        key: next((name for name in names if name in (reader.fieldnames or ())), None)
        for key, names in _COLUMNS.items()
    }
    if lacking := [key for key, name in columns.items() if not name and key != "split"]:
        raise DataError(f"{path} lacks the column {' or '.join(_COLUMNS[lacking[0]])}")
    is_hacs = columns["label"] == "classname"
    for row in reader:
        value = {key: row[name] or "" for key, name in columns.items() if name}
        # HACS marks by -1 what is not of the class.
        is_negative = is_hacs and row.get("label") == "-1"
        if is_negative or (split and not value.get("split", split).startswith(split)):
            continue
        try:
            start, end = float(value["start"]), float(value["end"])
        except ValueError:
            raise DataError(f"{path}, line {reader.line_num}: no times in {row}") from None
        if not value["label"]:
            raise DataError(f"{path}, line {reader.line_num}: no label, as in lists for tests")
        cut = f"{value['id']}_{int(start):06d}_{int(end):06d}"
        names = cut, f"v_{value['id']}", value["id"]
        yield _Row(value["label"], names[int(is_hacs)], names, start, end)


def _path_rows(path: Path, lines: list[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"(.+)[ ,](\d+)", line.strip())
        if match:
            yield _Row(str(int(match[2])), match[1])
        elif line.strip():
            raise DataError(
                f"{path}, line {number}: {line!r:.80} is no path with a label from 0 behind it, "
                "and the list is no csv of Kinetics or HACS and has no classInd.txt beside it"
            )


def _readable(path: Path, clips: list[Clip]) -> list[Clip]:
    """Those of which a frame can be read; warns of the others."""
    of_file = defaultdict(list)
    for clip in clips:
        of_file[clip.path].append(clip)
    logger.info("opening the %d videos of %s", len(of_file), path)
    with ThreadPool(_THREADS) as pool:
        found = pool.imap_unordered(_readable_of_file, of_file.values(), chunksize=16)
        readable = set(itertools.chain.from_iterable(found))
    broken = [clip for clip in clips if clip not in readable]
    names = list(dict.fromkeys(clip.path for clip in broken))
    if not readable:
        raise FileNotFoundError(
            f"none of the {len(names)} videos of {path} can be read: {names[0]}, ...\n{SOURCES}"
        )
    if broken:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        text = "%d of the %d clips of %s are left out: %d videos are missing, broken or short: %s"
        logger.warning(text, len(broken), len(clips), path, len(names), shown)
    return [clip for clip in clips if clip in readable]


def _readable_of_file(clips: list[Clip]) -> list[Clip]:
    clips = sorted(clips, key=lambda clip: clip.start or 0)
    # Where the last one can be read, the others can.
    while clips:
        try:
            read_clip(clips[-1], 1, (1, 1))
            break
        except DataError:
            clips.pop()
    return clips
