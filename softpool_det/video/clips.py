"""Clips of labelled videos as tensors: which frames, and one transform for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from softpool_det.io.data_errors import DataError
from softpool_det.io.video import frames_at, open_video
from softpool_det.video.lists import Clip, ClipList

logger = logging.getLogger(__name__)


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
        with open_video(clip.path) as capture:
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
    """The numbers of a clip's frames among those from `start` to `stop`, which is exclusive.

    Where there are too few, the last one is repeated.

    Args:
        start, stop: see there.
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

    An index is a clip's number, or (number, frames, crop) of a `MultigridBatchSampler`: of the same
    extent in time and space, so many frames of so many pixels a side. With `is_random`, the next
    clip that can be read stands in for one that cannot; `broken` names such files.

    Args:
        found: of `read_clips`.
        transform: of `torchvision.transforms.v2`, for instance, which draws once for all frames:
            from uint8 (T, 3, H, W), RGB, to float32 (T, 3, side, side).
        frames: of a clip, 1 or more.
        strides: smallest and largest step from frame to frame, 1 or more.
        is_random: a random place in time, for training; or the centre.
    """

    def __init__(
        self,
        found: ClipList,
        transform: Callable[[torch.Tensor], torch.Tensor],
        frames: int,
        strides: tuple[int, int] = (1, 1),
        is_random: bool = False,
    ) -> None:
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, got {frames}")
        if not 1 <= strides[0] <= strides[1]:
            raise ValueError(f"strides must be 1 <= smallest <= largest, got {strides}")
        self.clips, self.classes = found.clips, list(found.classes)
        self.targets = [clip.label for clip in found.clips]
        self.transform, self.frames, self.strides = transform, frames, strides
        self.is_random = is_random
        # Shared, so that this process knows of what the workers of a DataLoader met.
        self._is_broken = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    @property
    def broken(self) -> list[str]:
        """Files that could not be read so far, in any process."""
        return sorted({self.clips[int(i)].path for i in self._is_broken.nonzero()})

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int | tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        number, frames, side = index if isinstance(index, tuple) else (index, self.frames, None)
        strides = (self.strides[0], max(self.strides[1] * self.frames // frames, self.strides[0]))
        for i in range(len(self)):
            chosen = (number + i) % len(self)
            if self._is_broken[chosen]:
                continue
            try:
                pictures = read_clip(self.clips[chosen], frames, strides, self.is_random)
            except DataError as error:
                if not self.is_random:
                    raise
                self._is_broken[chosen] = True
                logger.warning("skipped: %s", error)
                continue
            video = self.transform(torch.from_numpy(pictures).permute(0, 3, 1, 2))
            if side and side != video.shape[-1]:
                video = F.resize(video, [side, side])
            return video.transpose(0, 1).contiguous(), self.targets[chosen]
        raise DataError(f"none of the {len(self)} clips can be read; one is {self.clips[0].path}")
