"""Labelled videos in the place of images."""

from __future__ import annotations

from collections.abc import Callable

import torch

from softpool_det.classification.config import Config
from softpool_det.datasets.cache import datasets_root
from softpool_det.datasets.moving_digits import LISTS, write_moving_digits
from softpool_det.video.clips import VideoClips
from softpool_det.video.lists import read_classes, read_clips
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
    root, clips = datasets_root(), cfg.clips
    files = {part: root / getattr(cfg, f"{part}_data") for part in ("train", split)}
    videos = root / clips.videos
    for part, file in files.items():
        if file == root / f"{_MADE}_{part}":
            folder = write_moving_digits(root / _MADE)
            files[part], videos = folder / "ucfTrainTestlist" / LISTS[part], folder / "UCF-101"
    found, classes = read_clips(files[split], videos, split, read_classes(files["train"], "train"))
    is_training = split == "train"
    strides = clips.train_strides if is_training else [clips.val_stride] * 2
    return VideoClips(found, classes, transform, clips.frames, strides, is_training)


def multigrid(cfg: Config) -> Multigrid | None:
    """The schedule of a training, None for one shape of batches.

    Raises:
        ValueError: a key has a value that does not go with it.
    """
    variant = cfg.clips.multigrid
    if not variant or not cfg.epochs:
        return None
    accumulated = cfg.trainer.get("accumulate_grad_batches", 1)
    for key, value, right in (
        ("warmup_epochs", cfg.warmup_epochs, 0),
        ("trainer.accumulate_grad_batches", accumulated, 1),
    ):
        if value != right:
            raise ValueError(f"{key} must be {right} with clips.multigrid, got {value}")
    shape = Shape(cfg.batch_size, cfg.clips.frames, cfg.size)
    steps = [round(epoch) for epoch in cfg.milestones if epoch < cfg.epochs]
    try:
        return Multigrid(shape, steps, cfg.epochs, variant, cfg.gamma)
    except ValueError as error:
        keys = f"clips.multigrid={variant} with milestones={cfg.milestones}, epochs={cfg.epochs}"
        raise ValueError(f"{keys}: {error}") from error
