"""Clips of labelled videos as tensors: which frames, and one transform for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from softpool_det.io.data_errors import DataError
from softpool_det.io.video import frames_at, open_video


class Clip(NamedTuple):
    """A labelled part of a video file."""

    path: str
    start: float | None  # seconds; None: the whole file
    end: float | None
    label: int  # index into the list's classes


def read_clip(
    clip: Clip, frames: int, strides: tuple[int, int], is_random: bool = False
) -> np.ndarray:
    """Decode the frames of a clip, exactly those that `frame_indices` chooses.

    Returns:
        (T, H, W, 3) uint8, RGB.

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
    """Choose the frames of a clip; where there are too few, the last one is repeated.

    Args:
        start, stop: the first frame, and the one after the last.
        frames: how many.
        strides: smallest and largest step from frame to frame; without `is_random`, the largest
            is taken.
        is_random: draw stride and place from torch's default generator; or take the centre.
    """
    low, high = strides
    stride = int(torch.randint(low, high + 1, ())) if is_random else high
    room = max(stop - start - (frames - 1) * stride - 1, 0)
    first = start + (int(torch.randint(room + 1, ())) if is_random else room // 2)
    return [min(first + i * stride, stop - 1) for i in range(frames)]


class VideoClips(Dataset):
    """Clips as (float32 (3, T, H, W), label).

    An index is a clip's number, or (number, frames, crop) of a `Multigrid` batch: the same
    extent in time and space as so many frames of so many pixels a side.

    Args:
        clips: as `read_clips` finds them.
        classes: names by label.
        transform: of `torchvision.transforms.v2`, for instance, which draws once for all frames:
            from uint8 (T, 3, H, W), RGB, to float32 (T, 3, side, side).
        frames: of a clip, 1 or more.
        strides: smallest and largest step from frame to frame, 1 or more.
        is_random: a random place in time, for training; or the centre.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        classes: Sequence[str],
        transform: Callable[[torch.Tensor], torch.Tensor],
        frames: int,
        strides: Sequence[int] = (1, 1),
        is_random: bool = False,
    ) -> None:
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, got {frames}")
        if len(strides) != 2 or not 1 <= strides[0] <= strides[1]:
            raise ValueError(f"strides must be two, 1 <= smallest <= largest, got {strides}")
        self.clips, self.classes = clips, list(classes)
        self.targets = [clip.label for clip in clips]
        self.transform, self.frames, self.strides = transform, frames, strides
        self.is_random = is_random

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
