"""Videos, read with OpenCV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from softpool_det.io.images import pixel_limit


@contextmanager
def open_video(path: str | Path, threads: int = 0) -> Iterator[cv2.VideoCapture]:
    """Open a video file to read frames from.

    Args:
        path: the file.
        threads: of the decoder; 0 for as many as there are cores.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it cannot be read, or its frames have more pixels than PIL takes in an image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist, must be a video file")
    capture = cv2.VideoCapture(str(path), cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, threads])
    try:
        if not capture.get(cv2.CAP_PROP_FPS) > 0:
            raise ValueError(f"{path} cannot be read as a video")
        # Before one is decoded.
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(capture.get(side)) for side in sides)
        if width * height > pixel_limit():
            raise ValueError(
                f"{path} has frames of {width}x{height} pixels, more than {pixel_limit()}"
            )
        yield capture
    finally:
        capture.release()


def frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yield the remaining frames, BGR, uint8 (H, W, 3)."""
    while (frame := capture.read()[1]) is not None:
        yield frame


def frames_at(capture: cv2.VideoCapture, indices: Sequence[int]) -> list[np.ndarray]:
    """Frames by number, RGB, uint8 (H, W, 3); fewer than `indices` where the video ends before.

    Args:
        capture: of `open_video`, at any place.
        indices: from 0, none smaller than the one before it.
    """
    found: list[np.ndarray] = []
    if indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, indices[0])
    place = indices[0] - 1 if indices else 0
    for index in indices:
        if index == place:
            found.append(found[-1])
            continue
        while place < index and capture.grab():
            place += 1
        frame = capture.retrieve()[1] if place == index else None
        if frame is None:
            break
        found.append(frame[..., ::-1])
    return found
