"""Labelled images and videos: folders, lists, small data sets by name; and batches of them.

Seed, epoch and place in it alone decide what a batch holds. Neither the number of workers nor an
interruption changes it, and a global batch has the same images for any number of processes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.datasets import FashionMNIST, ImageFolder
from torchvision.transforms import v2

from softpool_det.classification.config import Config, construct
from softpool_det.datasets.cache import datasets_root
from softpool_det.datasets.digit_scenes import load_digits
from softpool_det.datasets.moving_digits import LISTS, write_moving_digits
from softpool_det.io.images import read_rgb
from softpool_det.training.randomness import seed_of, seeded
from softpool_det.training.workers import outlive_signals
from softpool_det.video.clips import VideoClips, read_clips
from softpool_det.video.multigrid import Multigrid, Shape

_FASHION_BYTES = 16 + 60000 * 28 * 28  # of the larger one of its files, unpacked
# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_HELP = """\
Fashion-MNIST was not found: {name} is missing in {folder} and in {debian}. On Debian:
  apt-get install dataset-fashion-mnist
or, without root, apt-get download dataset-fashion-mnist, unpack it with dpkg-deb -x, and put its
four .gz files into {folder}. digits_train and digits_val need nothing of the kind."""
FOLDER_HELP = """\
{key} names {folder}, which {problem}. It takes a folder that holds one folder of images for each
class, or one of {names}; a relative folder is looked for in $DETECTRON2_DATASETS, which is {root}.
ImageNet-1k: put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, ILSVRC2012_devkit_t12.tar.gz of
https://image-net.org/download-images (an account is needed) into {root}/imagenet;
torchvision.datasets.ImageNet(folder, split) unpacks each split, "train" and "val"."""


@dataclass(eq=False, repr=False)
class LabelledArrays(Dataset):
    """Grey pictures (N, H, W) in memory, given out as RGB, with N labels and class names."""

    images: np.ndarray
    targets: list[int]
    classes: list[str]
    transform: Callable[[Image.Image], Any]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index]).convert("RGB")
        return self.transform(image), self.targets[index]


# What both have: classes (names), targets (a label for each image), a length.
LabelledImages: TypeAlias = "ImageFolder | LabelledArrays | VideoClips"


def _fashion_mnist(file: str, skip: int) -> np.ndarray:
    """Read the values of an IDX file of Fashion-MNIST (Xiao et al., arXiv 1708.07747)."""
    folder, name = datasets_root() / "fashion-mnist", f"{file}-ubyte.gz"
    path = next((p for f in (folder, DEBIAN_FASHION_MNIST) if (p := f / name).is_file()), None)
    if path is None:
        places = {"name": name, "folder": folder, "debian": DEBIAN_FASHION_MNIST}
        raise FileNotFoundError(FASHION_HELP.format(**places))
    try:
        with gzip.open(path) as opened:
            # No more than that: a small file can unpack to more than the memory holds.
            content = opened.read(_FASHION_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if not skip < len(content) <= _FASHION_BYTES:
        raise ValueError(f"{path} is not a file of Fashion-MNIST: it has another size, unpacked")
    return np.frombuffer(content, np.uint8, offset=skip)


def _small(name: str, transform: Callable[[Image.Image], Any]) -> LabelledArrays:
    split = name.rpartition("_")[2]
    if name.startswith("digits"):
        # 4,000 and 1,000; those of val are in no training scene of the demo.
        images, labels = load_digits(split)
        return LabelledArrays(images, labels.tolist(), list("0123456789"), transform)
    prefix = {"train": "train", "val": "t10k"}[split]
    # A header of 16 or 8 bytes, then the values.
    images = _fashion_mnist(f"{prefix}-images-idx3", skip=16).reshape(-1, 28, 28)
    labels = _fashion_mnist(f"{prefix}-labels-idx1", skip=8)
    return LabelledArrays(images, labels.tolist(), FashionMNIST.classes, transform)


SMALL_DATASETS = ("digits_train", "digits_val", "fashion_mnist_train", "fashion_mnist_val")


def open_dataset(name: str, transform: Callable[[Image.Image], Any], key: str) -> LabelledImages:
    """Open a data set by its name in `SMALL_DATASETS` or its folder, as ImageFolder takes it.

    A folder is below `$DETECTRON2_DATASETS` unless it is absolute; `key` of the config names it.
    `transform` takes PIL images, RGB. An image that cannot be read, or has more pixels than PIL's
    limit, raises ValueError when it is taken, a link to nothing OSError.

    Raises:
        FileNotFoundError: the files are absent; says what they are and how to get them.
    """
    if name in SMALL_DATASETS:
        return _small(name, transform)
    root, folder = datasets_root(), datasets_root() / name
    if folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()):
        try:
            return ImageFolder(str(folder), transform, loader=read_rgb)
        except FileNotFoundError as error:  # an empty class
            raise FileNotFoundError(f"{key} names {folder}: {error}") from error
    problem = "holds no folder, so no class" if folder.is_dir() else "does not exist"
    words = {"key": key, "folder": folder, "problem": problem, "root": root}
    raise FileNotFoundError(FOLDER_HELP.format(names=", ".join(SMALL_DATASETS), **words))


def open_videos(
    cfg: Config, split: str, transform: Callable[[torch.Tensor], torch.Tensor]
) -> VideoClips:
    """Open the clips of "train" or "val", with the training's classes; raises as `read_clips`."""
    root, clips = datasets_root(), cfg.clips
    files = {part: root / getattr(cfg, f"{part}_data") for part in ("train", split)}
    videos = root / clips.videos
    for part, file in files.items():
        if file == root / f"moving_digits_{part}":
            folder = write_moving_digits(root / "moving_digits")
            files[part], videos = folder / "ucfTrainTestlist" / LISTS[part], folder / "UCF-101"
    found, classes = read_clips(files[split], videos, split, files["train"])
    is_training = split == "train"
    strides = clips.train_strides if is_training else [clips.val_stride] * 2
    return VideoClips(found, classes, transform, clips.frames, strides, is_training)


def open_split(cfg: Config, split: str) -> LabelledImages:
    """Open the images (3, H, W) or clips (3, T, H, W) of a split, float32, normalized."""
    key = f"{split}_transforms"
    steps = [construct(v2, entry, key) for entry in getattr(cfg, key)]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize(cfg.pixel_mean, cfg.pixel_std)]
    if cfg.clips.frames:
        return open_videos(cfg, split, v2.Compose(steps))
    return open_dataset(getattr(cfg, f"{split}_data"), v2.Compose(steps), f"{split}_data")


class SeededDataset(Dataset):
    """A data set whose transforms draw from a seed of their own for every epoch and item.

    Its keys are (epoch, what the data set takes); it gives (image, label, what the data set took).
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, Any]) -> Any:
        epoch, item = key
        numbers = item if isinstance(item, tuple) else (item,)
        # Without workers this is the process that trains: its own generators are left alone.
        with seeded(seed_of(self.seed, epoch, *numbers)):
            return (*self.dataset[item], item)


@dataclass(eq=False, repr=False)
class EpochBatches(Sampler):
    """This process's share of the shuffled batches of an epoch, as keys of a `SeededDataset`.

    The order is that of torch's `DistributedSampler`. Samples that fill no batch are left out. A
    batch that cannot be divided evenly and, in `begin`, samples that fill none raise ValueError.
    """

    samples: int
    batch_size: int  # of all processes together
    seed: int
    rank: int = 0
    world_size: int = 1
    grid: Multigrid | None = None  # decides the shapes of batches of clips

    def __post_init__(self) -> None:
        self.epoch, self.shapes = -1, list[tuple[int, ...]]()
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size must be a positive multiple of the {self.world_size} processes, "
                f"got {self.batch_size}"
            )

    def begin(self, epoch: int, start: int = 0) -> None:
        """Let the next iteration be over `epoch`, from 0, without its first `start` batches."""
        if epoch == self.epoch:
            return
        self.epoch, self.start = epoch, start
        self.shapes = [(self.batch_size,)] * (self.samples // self.batch_size)
        if self.grid:
            self.shapes = [step.shape for step in self.grid.epoch(epoch, self.samples)]
        if not self.shapes:
            raise ValueError(
                f"batch_size is {self.batch_size}, but the training set has only {self.samples} "
                f"images or clips, which fill no batch of epoch {epoch + 1}"
            )

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = iter(torch.randperm(self.samples, generator=generator).tolist())
        for number, (batch, *grid) in enumerate(self.shapes):
            share = list(islice(order, batch))[self.rank :: self.world_size]
            if number >= self.start:
                yield [(self.epoch, (index, *grid) if grid else index) for index in share]


def multigrid(cfg: Config) -> Multigrid | None:
    """Build a training's schedule, None for one shape; raises ValueError for keys it excludes."""
    variant = cfg.clips.multigrid
    if not variant or not cfg.epochs:
        return None
    shape = Shape(cfg.batch_size, cfg.clips.frames, cfg.size)
    steps = [round(epoch) for epoch in cfg.milestones if epoch < cfg.epochs]
    try:
        grid = Multigrid(shape, steps, cfg.epochs, variant, cfg.gamma)
    except ValueError as error:
        keys = f"clips.multigrid={variant} with milestones={cfg.milestones}, epochs={cfg.epochs}"
        raise ValueError(f"{keys}: {error}") from error
    accumulate = "trainer.accumulate_grad_batches", cfg.trainer.get("accumulate_grad_batches", 1), 1
    for key, value, right in (("warmup_epochs", cfg.warmup_epochs, 0), accumulate):
        if value != right:
            raise ValueError(f"{key} must be {right} with clips.multigrid, got {value}")
    return grid


def loader(dataset: Any, batches: Any, seed: int, num_workers: int) -> DataLoader:
    """Load batches of (images, labels, items), of keys of a `SeededDataset`."""
    return DataLoader(
        SeededDataset(dataset, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=outlive_signals,
    )
