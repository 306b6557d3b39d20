"""Two handwritten digits that move: 10 classes of real video files in UCF-101's layout.

A class is the pair of directions of the two digits, whatever the order, so that no single frame
shows it. Speeds differ by digit, and every frame has its own noise.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from iopath.common.file_io import file_lock

from softpool_det.datasets.digit_scenes import Random, load_digits, resize_ink
from softpool_det.io.atomic import partial_folder

logger = logging.getLogger(__name__)

# Rows and columns a frame.
DIRECTIONS = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
CLASSES = {"".join(p): p for p in itertools.combinations_with_replacement(sorted(DIRECTIONS), 2)}
# As in UCF-101's first split: no group is in both, and here no digit either.
_GROUPS = {"val": range(1, 8), "train": range(8, 26)}
LISTS = {"train": "trainlist01.txt", "val": "testlist01.txt"}
_SETTINGS = "moving_digits.json"


@dataclass(frozen=True)
class MovingDigits:
    """What the videos are like.

    Args:
        clips: of each class in each of 25 groups; 18 groups are for training, 7 for tests.
        side: of the square frames, in pixels.
        frames: of a video.
        size: of the digits' longer sides, in pixels.
        speeds: smallest and largest number of pixels a frame.
        noise: standard deviation of each pixel's grey level, of 255.
        seed: 0 or more.
    """

    clips: int = 4
    side: int = 48
    frames: int = 24
    size: int = 16
    speeds: tuple[int, int] = (1, 3)
    noise: float = 100.0
    seed: int = 0


def write_moving_digits(folder: Path, settings: MovingDigits = MovingDigits()) -> Path:
    """Write the videos and their lists, unless they are there: the same ones for the same settings.

    The files lie in `UCF-101/<Class>/v_<Class>_gGG_cCC.avi` and `ucfTrainTestlist/`.

    Returns:
        `folder`, which appears when everything is written.

    Raises:
        FileExistsError: it holds something else, or videos of other settings.
        RuntimeError: the digits' wheel cannot be had.
    """
    text = json.dumps(asdict(settings), indent=2) + "\n"
    if folder.exists():
        path = folder / _SETTINGS
        if not path.is_file() or path.read_text() != text:
            raise FileExistsError(
                f"{folder} holds something else than these moving digits: delete it, or choose "
                "another folder"
            )
        return folder
    logger.info("writing moving digits to %s", folder)
    with file_lock(str(folder)), partial_folder(folder) as partial:
        if folder.exists():  # another process made it
            return folder
        made = partial / "made"
        lists = made / "ucfTrainTestlist"
        lists.mkdir(parents=True)
        names = [f"{label} {name}\n" for label, name in enumerate(CLASSES, start=1)]
        (lists / "classInd.txt").write_text("".join(names))
        for split, groups in _GROUPS.items():
            lines = []
            digits, _ = load_digits(split)
            numbers = itertools.product(enumerate(CLASSES), groups, range(1, settings.clips + 1))
            for (label, name), group, clip in numbers:
                file = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                random = Random([settings.seed, label, group, clip])
                _write(made / "UCF-101" / file, _video(random, digits, name, settings))
                lines.append(f"{file} {label + 1}\n" if split == "train" else f"{file}\n")
            (lists / LISTS[split]).write_text("".join(lines))
        (made / _SETTINGS).write_text(text)
        os.rename(made, folder)
    return folder


def _video(random: Random, digits: np.ndarray, name: str, settings: MovingDigits) -> np.ndarray:
    """(T, H, W) uint8. What leaves the frame comes in at its other side."""
    still, steps = [], []
    for direction in CLASSES[name]:
        canvas = np.zeros((settings.side, settings.side), np.uint8)
        ink = resize_ink(digits[random.randint(len(digits))], settings.size)
        canvas[: ink.shape[0], : ink.shape[1]] = ink
        still.append(np.roll(canvas, random.randint(0, settings.side, 2), (0, 1)))
        speed = random.randint(settings.speeds[0], settings.speeds[1] + 1)
        steps.append(speed * np.array(DIRECTIONS[direction]))
    frames = [
        np.maximum(*(np.roll(c, t * step, (0, 1)) for c, step in zip(still, steps, strict=True)))
        for t in range(settings.frames)
    ]
    noise = np.rint(random.normal(0, settings.noise, (settings.frames, *canvas.shape)))
    return np.clip(np.stack(frames) + noise, 0, 255).astype(np.uint8)


def _write(path: Path, video: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*"XVID")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 25, video.shape[:0:-1])
    for frame in video:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
