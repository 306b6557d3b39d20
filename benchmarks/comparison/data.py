"""A made-up ground truth and two detectors' results, of the size of val2017 if so wished."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 480, 640


def write_pair(
    folder: Path, *, images: int, categories: int, objects: int, detections: int, seed: int
) -> tuple[Path, Path, Path]:
    """Write ground truth, baseline and candidate into `folder`; returns their paths.

    Frequencies of categories fall as 1 / rank, sides are log-normal. Seven of ten objects get a
    detection near them, the rest of an image's `detections` lie anywhere; the candidate's near
    ones lie a little nearer.

    Args:
        folder: exists.
        images, categories, objects: in all.
        detections: for each image.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, categories + 1)
    image = np.sort(rng.integers(0, images, objects))
    category = rng.choice(categories, objects, p=shares / shares.sum())
    boxes = made_boxes(rng, objects)
    truth = {
        "images": [{"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(categories)],
        "annotations": [
            {
                "id": g + 1,
                "image_id": int(image[g]) + 1,
                "category_id": int(category[g]) + 1,
                "bbox": boxes[g].tolist(),
                "segmentation": [outline],
                "area": float(boxes[g, 2] * boxes[g, 3]),
                "iscrowd": int(rng.random() < 0.01),
            }
            for g, outline in enumerate(outlines(rng, boxes))
        ],
    }
    paths = tuple(folder / f"{name}.json" for name in ("ground_truth", "baseline", "candidate"))
    paths[0].write_text(json.dumps(truth))
    for path, noise in zip(paths[1:], (0.10, 0.095), strict=True):
        found = _detections(rng, images, categories, detections, image, category, boxes, noise)
        path.write_text(json.dumps(found))
    return paths


def outlines(rng: np.random.Generator, boxes: np.ndarray) -> list[list[float]]:
    """For each of (N, 4) boxes a polygon of 4 to 52 points around its ellipse, two decimals."""
    points = rng.integers(4, 53, len(boxes))
    owner = np.repeat(np.arange(len(boxes)), points)
    # Equal steps round the ellipse, each off by up to half of one.
    step = np.arange(len(owner)) - np.repeat(np.cumsum(points) - points, points)
    angle = 2 * np.pi * (step + rng.random(len(owner)) / 2) / points[owner]
    ellipse = (1 + np.stack([np.cos(angle), np.sin(angle)], axis=1)) / 2
    flat = (boxes[owner, :2] + ellipse * boxes[owner, 2:]).round(2).ravel().tolist()
    ends = np.cumsum(2 * points).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def made_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sides = np.clip(np.exp(rng.normal(4.0, 0.9, (count, 2))), 4, [WIDTH - 1, HEIGHT - 1])
    corners = rng.random((count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.hstack([corners, sides]).round(2)


def _detections(
    rng: np.random.Generator,
    images: int,
    categories: int,
    detections: int,
    image: np.ndarray,
    category: np.ndarray,
    boxes: np.ndarray,
    noise: float,
) -> list[dict]:
    near = np.flatnonzero(rng.random(len(image)) < 0.7)
    # Of a crowded image's objects, as many as it has detections.
    first = np.searchsorted(image[near], image[near], "left")
    near = near[np.arange(len(near)) - first < detections]
    sides = np.tile(boxes[near, 2:], 2)
    moved = boxes[near] + rng.normal(0, noise, (len(near), 4)) * sides
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    left = detections - np.bincount(image[near], minlength=images)
    others = int(left.sum())
    columns = (
        np.concatenate([image[near], np.repeat(np.arange(images), left)]) + 1,
        np.concatenate([category[near], rng.integers(0, categories, others)]) + 1,
        np.concatenate([moved, made_boxes(rng, others)]).round(2),
        np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1, 6, others)]),
    )
    keys = ("image_id", "category_id", "bbox", "score")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]
