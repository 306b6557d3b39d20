"""How many images a second one worker reads and augments: Detectron2's mapper on JPEG files."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import torch
from detector.arms import CONFIGS, FOLDERS, OBJECTS
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from PIL import Image

from softpool_det.config import load_config

WIDTH, HEIGHT = 640, 480
# Corners of an object's outline, and the sides of its box.
_CORNERS = 32
_SIDES = (16, 240)


def write_images(folder: Path, count: int, quality: int) -> int:
    """Write JPEGs of 640 x 480: parts of the photograph that matplotlib brings along.

    Args:
        folder: must be there.
        count: of files, each of another part.
        quality: of JPEG.

    Returns:
        The mean of the files' bytes.
    """
    photograph = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB")
    # 512 x 600: enlarged by half, so that parts of it differ.
    photograph = photograph.resize((768, 900), Image.Resampling.BICUBIC)
    generator = np.random.default_rng(0)
    for number in range(count):
        left = int(generator.integers(768 - WIDTH + 1))
        top = int(generator.integers(900 - HEIGHT + 1))
        part = photograph.crop((left, top, left + WIDTH, top + HEIGHT))
        part.save(folder / f"{number}.jpg", quality=quality)
    return round(statistics.mean(path.stat().st_size for path in folder.glob("*.jpg")))


def _records(folder: Path) -> list[dict]:
    generator = np.random.default_rng(1)
    angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    records = []
    for path in sorted(folder.glob("*.jpg")):
        objects = []
        for _ in range(OBJECTS):
            half = generator.uniform(*_SIDES, size=2) / 2
            center = half + generator.uniform(size=2) * ((WIDTH, HEIGHT) - 2 * half)
            box = [*(center - half), *(center + half)]
            outline = [(center + half * circle).ravel().tolist()]
            kind = {"bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
            objects.append({"bbox": box, "segmentation": outline, **kind})
        size = {"width": WIDTH, "height": HEIGHT}
        records.append({"file_name": str(path), **size, "annotations": objects})
    return records


def measure(model: str, folder: Path, rounds: int) -> dict:
    """Read, resize, mirror and convert every image of a folder, in this process and one thread.

    Args:
        model: "retinanet" or "mask_rcnn" (which has masks to transform besides).
        folder: of :func:`write_images`.
        rounds: how often, after once that does not count.

    Returns:
        Images a second: "median" and "best" of the rounds, and "rounds".
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cfg = load_config(str(CONFIGS / FOLDERS[model] / f"{model}_softpool_R_50_FPN_1x.yaml"), [])
    mapper, records = DatasetMapper(cfg, True), _records(folder)
    rates = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        for record in records:
            mapper(record)
        if number:
            rates.append(len(records) / (time.perf_counter() - start))
    return {"median": statistics.median(rates), "best": max(rates), "rounds": rounds}
