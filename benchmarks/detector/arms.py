"""Detectors to compare, with random weights, and what they are fed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.trainer import find_precision

STOCK, SOFTPOOL = "stock", "SoftPool"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOLDERS = {"retinanet": "COCO-Detection", "mask_rcnn": "COCO-InstanceSegmentation"}
# As many objects as an image of COCO has on average.
OBJECTS = 7
CLASSES = 80
CORNERS = 16


class Arm:
    """One detector: a training step and an inference on a fixed batch.

    Args:
        model: "retinanet" or "mask_rcnn", R50-FPN.
        name: STOCK or SOFTPOOL.
        device: "cpu" or "cuda".
        channels_last: keep weights and images in that layout.
        batch: as :func:`new_batch` gives it.
        options: further ones of the config.
    """

    def __init__(
        self,
        model: str,
        name: str,
        device: str,
        channels_last: bool,
        batch: list[dict],
        options: Sequence[str] = (),
    ) -> None:
        middle = "" if name == STOCK else "softpool_"
        file = CONFIGS / FOLDERS[model] / f"{model}_{middle}R_50_FPN_1x.yaml"
        overrides = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", device]
        # The step is taken, but the weights stay: training on noise with random weights diverges.
        overrides += ["MODEL.CHANNELS_LAST", str(channels_last), "SOLVER.BASE_LR", "0.0"]
        cfg = load_config(str(file), [*overrides, *options])
        self.device, self.precision = device, find_precision(cfg)
        torch.manual_seed(0)
        # Any: attributes of a Module are Tensor or Module to a type checker.
        self.model: Any = Trainer.build_model(cfg)
        self.optimizer = Trainer.build_optimizer(cfg, self.model)
        self.batch = batch

    @property
    def stem(self) -> Any:
        return self.model.backbone.bottom_up.stem

    def train(self) -> None:
        """Forward, backward and the optimizer's step; gradients are freed at the end."""
        self.model.train()
        # The same anchors and proposals are drawn in every arm.
        torch.manual_seed(0)
        autocast = torch.autocast(self.device, self.precision, enabled=self.precision is not None)
        with EventStorage(), autocast:
            losses = self.model(self.batch)
        sum(losses.values()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def infer(self) -> None:
        """From the images to detections in the images' coordinates."""
        self.model.eval()
        self.model(self.batch)


def new_arms(
    model: str, device: str, channels_last: bool, size: tuple[int, int], batch: int
) -> dict[str, Arm]:
    """Both detectors, with the same random weights."""
    images = new_batch(size, batch)
    arms = {n: Arm(model, n, device, channels_last, images) for n in (STOCK, SOFTPOOL)}
    arms[SOFTPOOL].model.load_state_dict(arms[STOCK].model.state_dict())
    return arms


def new_batch(size: tuple[int, int], count: int) -> list[dict]:
    """Images of noise with random ellipses as objects, in Detectron2's training format.

    Args:
        size: height and width.
        count: images in the batch.
    """
    generator = torch.Generator().manual_seed(0)
    return [_record(size, generator) for _ in range(count)]


def _record(size: tuple[int, int], generator: torch.Generator) -> dict:
    height, width = size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    # Half axes from 1/64 to 1/4 of the image, small ones as often as large ones.
    limits = torch.tensor([width, height])
    half = limits / 4 * 16 ** -torch.rand(OBJECTS, 2, generator=generator)
    center = half + torch.rand(OBJECTS, 2, generator=generator) * (limits - 2 * half)
    angles = torch.arange(CORNERS) * (2 * math.pi / CORNERS)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    polygons = center[:, None] + half[:, None] * circle
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.cat([center - half, center + half], dim=1))
    instances.gt_classes = torch.randint(0, CLASSES, (OBJECTS,), generator=generator)
    instances.gt_masks = PolygonMasks([[p.flatten().double().numpy()] for p in polygons])
    return {"image": image, "height": height, "width": width, "instances": instances}


def stem_functions(arms: dict[str, Arm]) -> dict[tuple[str, str], Callable[[], object]]:
    """The stem with its convolution: forward, and forward with backward to the weights."""
    functions: dict[tuple[str, str], Callable[[], object]] = {}
    for name, arm in arms.items():
        functions["stem, inference", name] = _stem_inference(arm)
        functions["stem, training", name] = _stem_training(arm)
    return functions


def _images(arm: Arm) -> torch.Tensor:
    return arm.model.preprocess_image(arm.batch).tensor


def _stem_inference(arm: Arm) -> Callable[[], object]:
    images, stem = _images(arm), arm.stem

    def run() -> object:
        with torch.no_grad():
            return stem(images)

    return run


def _stem_training(arm: Arm) -> Callable[[], object]:
    images, stem = _images(arm), arm.stem
    weight = stem.conv1.weight
    upstream = torch.ones_like(stem(images))
    return lambda: torch.autograd.grad(stem(images), weight, upstream)
