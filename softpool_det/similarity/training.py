"""Training of the poolings with parameters, before they are measured.

The paper gives no recipe. Here each pooling and kernel size is trained once: Adam, with a learning
rate that falls to 0, on the mean squared error between crops of the training images and the pooled
crops, each pixel repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from softpool_det.similarity.metrics import enlarged
from softpool_det.similarity.photographs import Photograph, cropped, read_pixels, spread
from softpool_det.similarity.poolings import apply, build, pooling_of, seed_of, state_of

CROPS = 64
CROP_SIDE = 120
BATCH = 4
LEARNING_RATE = 0.03


class TrainingTask(NamedTuple):
    """What to train: a pooling's key, the kernel size, the seed, the steps, the crops."""

    key: str
    kernel: int
    seed: int
    steps: int
    crops: np.ndarray


class Trained(NamedTuple):
    """A trained pooling.

    Args:
        state: its parameters.
        record: MSE over all crops before and after, and the average pooling's, for the report.
    """

    state: dict[str, np.ndarray]
    record: dict[str, Any]


def training_crops(
    photographs: Sequence[Photograph], sizes: dict[str, tuple[int, int]], seed: int
) -> np.ndarray:
    """Crops at places drawn at random, in turn from at most `CROPS` of the images.

    Args:
        sizes: width and height by name.

    Returns:
        uint8 (CROPS, 3, S, S), S the smaller of `CROP_SIDE` and the shortest side.
    """
    chosen = spread(photographs, CROPS)
    side = min(CROP_SIDE, *(min(sizes[photograph.name]) for photograph in chosen))
    generator = torch.Generator().manual_seed(seed_of(seed, "crops"))
    crops = []
    for number, photograph in enumerate(chosen):
        pixels = read_pixels(photograph)
        for _ in range(number, CROPS, len(chosen)):
            top, left = (
                int(torch.randint(length - side + 1, (), generator=generator))
                for length in pixels.shape[-2:]
            )
            crops.append(pixels[:, top : top + side, left : left + side])
    return np.stack(crops)


def train(task: TrainingTask) -> Trained:
    """Train one pooling, from its own start, with batches drawn at random.

    Raises:
        FloatingPointError: the parameters did not stay finite.
    """
    pooling = pooling_of(task.key)
    seed = seed_of(task.seed, "training", task.key, task.kernel)
    layer = build(pooling, task.kernel, seed)
    images = torch.from_numpy(cropped(task.crops, task.kernel).astype(np.float32) / 255)

    def error(batch: torch.Tensor) -> torch.Tensor:
        return _error(apply(pooling, layer, batch), batch)

    before = error(images).item()
    optimizer = torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    for step in range(task.steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / task.steps)
        places = torch.randint(len(images), (BATCH,), generator=generator)
        optimizer.zero_grad()
        error(images[places]).backward()
        optimizer.step()
    after = error(images).item()
    if not math.isfinite(after):
        raise FloatingPointError(f"{pooling.label}, k = {task.kernel}: training diverged")
    state = state_of(layer)
    record = {
        "pooling": task.key,
        "kernel_size": task.kernel,
        "mse_before": before,
        "mse_after": after,
        "mse_of_average": _error(functional.avg_pool2d(images, task.kernel), images).item(),
        "parameters": {name: array.tolist() for name, array in state.items()},
    }
    return Trained(state, record)


def _error(pooled: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    size = (images.shape[-2], images.shape[-1])
    return functional.mse_loss(enlarged(pooled, size, "nearest"), images)
