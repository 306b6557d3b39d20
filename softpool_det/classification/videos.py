"""Labelled videos in the place of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from softpool_det.classification.config import Config
from softpool_det.datasets.cache import datasets_root
from softpool_det.video.clips import VideoClips
from softpool_det.video.lists import read_clips
from softpool_det.video.moving_digits import LISTS, write_moving_digits
from softpool_det.video.multigrid import Multigrid, Shape

_MADE = "moving_digits"


def open_videos(
    cfg: Config, split: str, transform: Callable[[torch.Tensor], torch.Tensor]
) -> VideoClips:
    """The clips of "train" or "val", with the training's classes.

    Raises:
        FileNotFoundError: they are not there; says where to get them.
        DataError: a list is of no layout that is known.
    """
    root, classes, clips = datasets_root(), None, cfg.clips
    for part in ("train", split):
        name, videos = getattr(cfg, f"{part}_data"), root / clips.videos
        file = root / name
        if name == f"{_MADE}_{part}":
            folder = write_moving_digits(root / _MADE)
            file, videos = folder / "ucfTrainTestlist" / LISTS[part], folder / "UCF-101"
        found = read_clips(file, videos, part, classes, opened=part == "val")
        classes = found.classes
    low, high = clips.train_strides if split == "train" else [clips.val_stride] * 2
    return VideoClips(found, transform, clips.frames, (low, high), is_random=split == "train")


def multigrid(cfg: Config) -> Multigrid | None:
    """The schedule of a training, None for one shape of batches.

    Raises:
        ValueError: a key has a value that does not go with it.
    """
    if not cfg.clips.multigrid:
        return None
    if cfg.warmup_epochs:
        raise ValueError(f"warmup_epochs must be 0 with clips.multigrid, got {cfg.warmup_epochs}")
    shape = Shape(cfg.batch_size, cfg.clips.frames, cfg.size)
    steps: Any = [round(epoch) for epoch in cfg.milestones]
    return Multigrid(shape, steps, cfg.epochs, cfg.clips.multigrid, cfg.gamma)
