"""Labelled clips: lists of videos, the frames of a clip, and one transform for all of them."""

from __future__ import annotations

import csv
import glob
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from softpool_det.io.data_errors import DataError
from softpool_det.io.video import frames_at, open_video

logger = logging.getLogger(__name__)

_SUFFIXES = (".avi", ".mkv", ".mp4", ".webm")
# The names of each column in the lists of Kinetics, HACS Clips and the authors' cut HACS.
_COLUMNS = (
    ("classname", "label"),
    ("youtube_id", "id"),
    ("time_start", "start"),
    ("time_end", "end"),
)
# Files are opened at the same time, for disks are slow and most of decoding runs without the GIL.
_THREADS = 16

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


def read_clip(
    clip: Clip, frames: int, strides: tuple[int, int], is_random: bool = False
) -> np.ndarray:
    """Decode exactly the frames that `frame_indices` chooses: (T, H, W, 3) uint8, RGB.

    Raises:
        DataError: the file cannot be read, or has no frame there.
    """
    try:
        # One thread: a DataLoader has many workers.
        with open_video(clip.path, threads=1) as capture:
            stop, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
            start = 0 if clip.start is None else round(clip.start * fps)
            stop = stop if clip.end is None else min(round(clip.end * fps), stop)
            while start < stop:
                indices = frame_indices(start, stop, frames, strides, is_random)
                pictures = frames_at(capture, indices)
                if len(pictures) == frames:
                    return np.stack(pictures)
                # A header may promise more frames than there are.
                stop = indices[len(pictures)]
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    raise DataError(f"{clip.path} has no frame that can be read from {clip.start or 0} s on")


def frame_indices(
    start: int, stop: int, frames: int, strides: tuple[int, int], is_random: bool
) -> list[int]:
    """Choose so many frames in [start, stop); where there are too few, the last one is repeated.

    `strides` are the smallest and the largest step. With `is_random`, step and place are drawn from
    torch's default generator; otherwise they are the largest step and the centre.
    """
    low, high = strides
    stride = int(torch.randint(low, high + 1, ())) if is_random else high
    room = max(stop - start - (frames - 1) * stride - 1, 0)
    first = start + (int(torch.randint(room + 1, ())) if is_random else room // 2)
    return [min(first + i * stride, stop - 1) for i in range(frames)]


@dataclass(eq=False, repr=False)
class VideoClips(Dataset):
    """Clips as (float32 (3, T, H, W), label).

    An index is a clip's number, or (number, frames, crop) of a `Multigrid` batch: resized to crop
    pixels a side, and with a largest step that keeps the extent in time.

    A transform, of `torchvision.transforms.v2` for instance, draws once for all frames: from uint8
    (T, 3, H, W), RGB, to float32 (T, 3, side, side).
    """

    clips: Sequence[Clip]
    classes: Sequence[str]
    transform: Callable[[torch.Tensor], torch.Tensor]
    frames: int  # of a clip, 1 or more
    strides: Sequence[int] = (1, 1)  # smallest and largest step from frame to frame, 1 or more
    is_random: bool = False  # a random place in time, for training; or the centre

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be 1 or more, got {self.frames}")
        if len(self.strides) != 2 or not 1 <= self.strides[0] <= self.strides[1]:
            raise ValueError(f"strides must be two, 1 <= smallest <= largest, got {self.strides}")
        self.targets = [clip.label for clip in self.clips]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int | tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        number, frames, side = index if isinstance(index, tuple) else (index, self.frames, None)
        low, high = self.strides
        strides = (low, max(high * self.frames // frames, low))
        pictures = read_clip(self.clips[number], frames, strides, self.is_random)
        video = self.transform(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        if side and side != video.shape[-1]:
            video = F.resize(video, [side, side])
        return video.transpose(0, 1).contiguous(), self.targets[number]


class _Row(NamedTuple):
    label: str
    name: str  # of the file, below the folder of videos
    # Names, without suffix, that it may have anywhere below: of the cut clip, of whole videos.
    others: tuple[str, ...] = ()
    times: tuple[float | None, float | None] = (None, None)


def read_clips(
    file: str | Path,
    videos: str | Path,
    split: str | None = None,
    training_list: str | Path | None = None,
) -> tuple[list[Clip], list[str]]:
    """Read a list of labelled videos; its layout is recognised by what it holds.

    docs/video.md has the layouts: UCF-101's (folders are the labels), Kinetics', HACS Clips' (only
    the positive clips are taken) and PySlowFast's (a space or a comma before a label from 0).
    A frame of each file is decoded (milliseconds). Clips without one are named in a warning.

    Args:
        file, videos: the list, and the folder of its files.
        split: "train", "val" or "test" ("training" and the like) of the rows of a csv.
        training_list: whose classes count, for other lists of the same data; None: this one's. Its
            videos need not be there.

    Returns:
        The clips that can be read, in the list's order, and the classes.

    Raises:
        FileNotFoundError: the list is missing, or all of its files; with where to get data.
        DataError: it has none of those layouts, or a class that the training's list lacks.
    """
    path, folder = Path(file), Path(videos)
    rows, classes = _read(path, split)
    if training_list:
        classes = _read(Path(training_list), "train")[1]
    labels = {name: label for label, name in enumerate(classes)}
    if unknown := next((row.label for row in rows if row.label not in labels), None):
        raise DataError(f"{path} has the class {unknown!r}, none of the {len(labels)} classes")
    files: dict[str, str] = {}
    if any(row.others for row in rows):
        found = glob.iglob(f"{glob.escape(str(folder))}/**", recursive=True)
        files = {Path(name).stem: name for name in found if name.lower().endswith(_SUFFIXES)}
    clips = []
    for row in rows:
        name = next((name for name in row.others if name in files), row.name)
        times = row.times if name in row.others[1:] else (None, None)
        clips.append(Clip(files.get(name, str(folder / name)), *times, labels[row.label]))
    return _readable(path, clips), list(labels)


def _read(path: Path, split: str | None) -> tuple[list[_Row], list[str]]:
    """The rows of a list and its classes, by label."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: it must be a list of videos.\n{SOURCES}")
    # A name that is not in UTF-8 shows as caf\xe9, and its file as missing.
    lines = path.read_text(encoding="utf-8-sig", errors="backslashreplace").splitlines()
    index, classes = path.with_name("classInd.txt"), None
    if set(next(csv.reader(lines[:1]), [])) & set(_COLUMNS[1]):
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
    for names in _COLUMNS:
        if not {*names} & {*(reader.fieldnames or ())}:
            raise DataError(f"{path} lacks the column {' or '.join(names)}")
    for row in reader:
        found = [next(row[name] or "" for name in names if name in row) for names in _COLUMNS]
        (label, video, *times), is_hacs = found, "classname" in row
        part = row.get("split", row.get("subset", split)) or ""
        # HACS marks by -1 what is not of the class.
        if (is_hacs and row.get("label") == "-1") or not part.startswith(split or ""):
            continue
        try:
            start, end = map(float, times)
        except ValueError:
            raise DataError(f"{path}, line {reader.line_num}: no times in {row}") from None
        if not label:
            raise DataError(f"{path}, line {reader.line_num}: no label, as in lists for tests")
        stems = f"{video}_{int(start):06d}_{int(end):06d}", f"v_{video}", video
        yield _Row(label, stems[int(is_hacs)], stems, (start, end))


def _path_rows(path: Path, lines: list[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"(.+)[ ,](\d{1,6})", line.strip())
        if match:
            yield _Row(str(int(match[2])), match[1])
        elif line.strip():
            raise DataError(
                f"{path}, line {number}: {line!r:.80} is not a path and a label from 0 to 999999, "
                "and the list is not a csv of Kinetics or HACS and has no classInd.txt beside it"
            )


def _readable(path: Path, clips: list[Clip]) -> list[Clip]:
    """Those of which a frame can be read; warns of the others."""
    by_time = sorted(clips, key=lambda clip: (clip.path, clip.start or 0))
    of_file = [list(group) for _, group in groupby(by_time, lambda clip: clip.path)]
    logger.info("opening the %d videos of %s", len(of_file), path)
    with ThreadPool(_THREADS) as pool:
        found = pool.imap_unordered(_readable_of_file, of_file, chunksize=16)
        readable = set(chain.from_iterable(found))
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
    # If the last one can be read, the others can.
    while clips:
        try:
            read_clip(clips[-1], 1, (1, 1))
            break
        except DataError:
            clips.pop()
    return clips
