"""Photographs to pool: where they lie, whether they are large enough, and their pixels."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softpool_det.io.images import read_header, read_rgb

# SSIM's window (Wang et al., 2004) has 11 x 11 pixels.
WINDOW = 11
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")
# Photographs in the wheels themselves; scikit-image downloads others, which are not used.
# Not its moon.png: that is enlarged by repeating pixels, so that pooling by 2 loses nothing.
_INSTALLED = {
    "skimage": [
        *(f"data/{name}.png" for name in ("astronaut", "brick", "camera", "chelsea", "coffee")),
        *(f"data/{name}.png" for name in ("coins", "grass", "gravel", "motorcycle_left")),
        "data/rocket.jpg",
    ],
    "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}


@dataclass(frozen=True)
class Photograph:
    """An image file.

    Args:
        name: by which it is sorted and reported.
        path: of the file.
    """

    name: str
    path: Path


def installed_photographs() -> list[Photograph]:
    """Photographs that installed packages ship, by name.

    Raises:
        FileNotFoundError: no image was found.
    """
    found = []
    for package, files in _INSTALLED.items():
        # This does not import the package.
        spec = importlib.util.find_spec(package)
        folders = map(Path, (spec.submodule_search_locations or ()) if spec else ())
        paths = [folder / file for folder in folders for file in files]
        found += [Photograph(path.name, path) for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(
            "no photographs: install scikit-image, which ships some, or name a folder of images"
        )
    return sorted(found, key=lambda photograph: photograph.name)


def folder_photographs(folder: Path) -> list[Photograph]:
    """List the image files of a folder, by name; subfolders are not searched.

    Raises:
        FileNotFoundError: the folder does not exist, or no file in it is named as an image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: folder of images not found")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"no images in {folder}: no file ends in {', '.join(SUFFIXES)}")
    return [Photograph(path.name, path) for path in sorted(paths)]


def spread(photographs: Sequence[Photograph], limit: int | None) -> list[Photograph]:
    """At most `limit` of them, evenly spread over their order."""
    count = len(photographs) if limit is None else min(limit, len(photographs))
    return [photographs[number * len(photographs) // count] for number in range(count)]


def split(
    photographs: Sequence[Photograph], training: bool
) -> tuple[list[Photograph], list[Photograph]]:
    """Those to train on and those to measure: first and second half, all where none trains.

    Raises:
        ValueError: there is one image, and it would have to be both.
    """
    if not training:
        return [], list(photographs)
    if len(photographs) < 2:
        raise ValueError(
            "one image cannot be trained on and measured, too: give two or more, choose poolings "
            "without parameters (--poolings softpool max avg), or --train-steps 0"
        )
    half = len(photographs) // 2
    return list(photographs[:half]), list(photographs[half:])


def check_sizes(
    photographs: Sequence[Photograph], kernels: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Width and height of each image, by name, from the files' headers.

    Raises:
        FileNotFoundError, ImageError: an image cannot be read; the text names it.
        ValueError: one is too small for SSIM after the largest pooling.
    """
    sizes = {}
    for photograph in photographs:
        width, height = read_header(photograph.path).size
        if min(width, height) // max(kernels) < WINDOW:
            raise ValueError(
                f"{photograph.path} has {width}x{height} pixels: pooled by {max(kernels)} it would "
                f"have fewer than {WINDOW} on a side, and SSIM needs {WINDOW}; "
                f"{WINDOW * max(kernels)} or more are large enough"
            )
        sizes[photograph.name] = (width, height)
    return sizes


def read_pixels(photograph: Photograph) -> np.ndarray:
    """Read the image as uint8 (3, H, W); a grey one has three equal channels.

    Raises:
        FileNotFoundError, ImageError: as for `softpool_det.io.images.load_image`.
    """
    return np.ascontiguousarray(np.asarray(read_rgb(photograph.path)).transpose(2, 0, 1))


def cropped(pixels: np.ndarray, kernel: int) -> np.ndarray:
    """(..., H, W) without the last rows and columns, so that windows of `kernel` fill it."""
    height, width = (side - side % kernel for side in pixels.shape[-2:])
    return pixels[..., :height, :width]
