"""Clips of labelled videos as tensors: which frames, and one transform for all of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from softpool_det.io.data_errors import DataError
from softpool_det.io.video import frames_at, open_video
from softpool_det.video.lists import Clip

logger = logging.getLogger(__name__)

# Of Kinetics-400, as torchvision's video networks take them.
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class View:
    """What is taken of a video.

    Args:
        frames: of a clip, 1 or more.
        crop: side in pixels of the square that is cut out.
        resize: the shorter side is resized to so many pixels first.
        strides: smallest and largest step from frame to frame, 1 or more. A clip in training
            draws one; an evaluation takes the largest.
        train: a random place in time and space, or the centre of both.
        flip: mirror every second clip in training. Not where left and right make the class.
        jitter: how much brightness, contrast and saturation change in training, at most; 0 to 1.
    """

    frames: int = 16
    crop: int = 256
    resize: int = 384
    strides: tuple[int, int] = (1, 2)
    train: bool = True
    flip: bool = True
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be 1 or more, got {self.frames}")
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop must be 1 to resize ({self.resize}), got {self.crop}")
        if not 1 <= self.strides[0] <= self.strides[1]:
            raise ValueError(f"strides must be 1 <= smallest <= largest, got {self.strides}")

    def coarser(self, frames: int, crop: int) -> View:
        """The same extent with fewer frames and pixels, as multigrid training takes it."""
        resize = round(self.resize * crop / self.crop)
        strides = (self.strides[0], self.strides[1] * self.frames // frames)
        return replace(self, frames=frames, crop=crop, resize=resize, strides=strides)


def frame_indices(start: int, stop: int, view: View) -> list[int]:
    """The numbers of a clip's frames among those from `start` to `stop`, which is exclusive.

    Where there are too few, the last one is repeated. Random draws are of torch's default
    generator.
    """
    low, high = view.strides
    stride = int(torch.randint(low, high + 1, ())) if view.train else high
    room = max(stop - start - (view.frames - 1) * stride - 1, 0)
    first = start + (int(torch.randint(room + 1, ())) if view.train else room // 2)
    return [min(first + i * stride, stop - 1) for i in range(view.frames)]


def read_clip(clip: Clip, view: View) -> np.ndarray:
    """Decode a clip's frames, exactly those of `frame_indices`.

    Returns:
        (T, H, W, 3) uint8, RGB.

    Raises:
        DataError: the file cannot be read, or has no frame there.
    """
    try:
        with open_video(clip.path) as capture:
            count, fps = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
            start = 0 if clip.start is None else round(clip.start * fps)
            stop = int(count) if clip.end is None else min(round(clip.end * fps), int(count))
            while start < stop:
                indices = frame_indices(start, stop, view)
                pictures = frames_at(capture, indices)
                if len(pictures) == view.frames:
                    return np.stack(pictures)
                # A header may promise more frames than there are.
                stop = indices[len(pictures)]
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    raise DataError(f"{clip.path} has no frame that can be read from {clip.start or 0} s on")


@functools.lru_cache(maxsize=64)
def clip_transform(view: View) -> nn.Module:
    """From (T, 3, H, W) uint8 to normalised float32 (T, 3, crop, crop), drawn once for a clip."""
    steps: list[nn.Module] = [v2.Resize(view.resize)]
    if view.train:
        # The centre first, as the authors do: the sides of wide videos are never seen.
        steps += [v2.CenterCrop(view.resize), v2.RandomCrop(view.crop)]
        steps += [v2.RandomHorizontalFlip()] if view.flip else []
        steps += [v2.ColorJitter(view.jitter, view.jitter, view.jitter)] if view.jitter else []
    else:
        steps.append(v2.CenterCrop(view.crop))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


class VideoClips(Dataset):
    """Clips as (float32 (3, T, H, W), label).

    An index is a clip's number, or (number, frames, crop) as a `MultigridBatchSampler` gives it.
    In place of a file that cannot be read comes the next one that can; `broken` names such files.

    Args:
        clips: of a `ClipList`.
        view: what to take of each.
    """

    def __init__(self, clips: Sequence[Clip], view: View) -> None:
        if not clips:
            raise DataError("clips is empty, must hold one clip or more")
        self.clips, self.view = clips, view
        # Shared, so that this process knows of what the workers of a DataLoader met.
        self._is_broken = torch.zeros(len(clips), dtype=torch.bool).share_memory_()

    @property
    def broken(self) -> list[str]:
        """Files that could not be read so far, in any process."""
        return sorted({self.clips[int(i)].path for i in self._is_broken.nonzero()})

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int | tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        number, *grid = index if isinstance(index, tuple) else (index,)
        view = self.view.coarser(*grid) if grid else self.view
        for i in range(len(self)):
            chosen = (number + i) % len(self)
            if self._is_broken[chosen]:
                continue
            clip = self.clips[chosen]
            try:
                pictures = read_clip(clip, view)
            except DataError as error:
                self._is_broken[chosen] = True
                logger.warning("skipped: %s", error)
                continue
            video = torch.from_numpy(pictures).permute(0, 3, 1, 2)
            return clip_transform(view)(video).permute(1, 0, 2, 3).contiguous(), clip.label
        raise DataError(f"none of the {len(self)} clips can be read; one is {self.clips[0].path}")
