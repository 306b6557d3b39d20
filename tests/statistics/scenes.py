"""Made-up ground truth and detections, and what pycocotools and hotcoco say of them."""

from __future__ import annotations

import contextlib
import copy
import io

import hotcoco
import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIZE = 160
# Sides whose squares lie on both sides of the areas' limits, and on them.
SIDES = (8, 31, 32, 33, 40, 95, 96, 97, 120)


def scene(
    seed: int,
    *,
    images: int = 8,
    categories: int = 3,
    objects: int = 4,
    detections: int = 8,
    scores: int | None = None,
    crowds: float = 0.15,
    masks: bool = False,
) -> tuple[dict, list[dict]]:
    """Ground truth and detections, some near an object, some anywhere.

    Args:
        seed: of the random numbers.
        images, categories: how many; the last category has no objects.
        objects, detections: for each image, up to so many.
        scores: how many different scores there are; all different by default.
        crowds: the share of objects that are crowds.
        masks: with run-length encodings (ellipses) besides boxes.
    """
    rng = np.random.default_rng(seed)
    truth: dict = {
        "images": [{"id": 10 * i + 3, "height": SIZE, "width": SIZE} for i in range(images)],
        "categories": [{"id": 2 * k + 1, "name": f"class {k}"} for k in range(categories)],
        "annotations": [],
    }
    rng.shuffle(truth["images"])
    found: list[dict] = []
    for image in truth["images"]:
        boxes = [_box(rng) for _ in range(rng.integers(objects + 1))]
        for box in boxes:
            annotation = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image["id"],
                "category_id": 2 * int(rng.integers(max(categories - 1, 1))) + 1,
                "bbox": box,
                "iscrowd": int(rng.random() < crowds),
            }
            annotation |= _shape(box, masks)
            truth["annotations"].append(annotation)
        for _ in range(rng.integers(detections + 1)):
            near = boxes and rng.random() < 0.7
            box = _near(rng, boxes[rng.integers(len(boxes))]) if near else _box(rng)
            score = rng.random()
            entry = {
                "image_id": image["id"],
                "category_id": 2 * int(rng.integers(categories)) + 1,
                "bbox": box,
                "score": float(score if scores is None else np.floor(score * scores) / scores),
            }
            if masks:
                entry["segmentation"] = _shape(box, True)["segmentation"]
            found.append(entry)
    rng.shuffle(found)
    return truth, found


def _box(rng: np.random.Generator) -> list[float]:
    width, height = (float(rng.choice(SIDES)) for _ in range(2))
    x, y = (float(rng.integers(SIZE - side + 1)) for side in (int(width), int(height)))
    return [x, y, width, height]


def _near(rng: np.random.Generator, box: list[float]) -> list[float]:
    if rng.random() < 0.2:
        return list(box)
    moved = np.array(box) + rng.normal(0, 0.08 * min(box[2:]), 4)
    return np.clip(moved, [0, 0, 4, 4], SIZE).round(2).tolist()


def _shape(box: list[float], masks: bool) -> dict:
    x, y, width, height = box
    if not masks:
        return {"area": width * height}
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside = ((columns - x - width / 2) * 2 / width) ** 2 + (
        (rows - y - height / 2) * 2 / height
    ) ** 2 <= 1
    encoded = mask_utils.encode(np.asfortranarray(inside, dtype=np.uint8))
    area = int(mask_utils.area(encoded))
    return {"area": area, "segmentation": {**encoded, "counts": encoded["counts"].decode()}}


def pycocotools_evaluation(truth: dict, found: list[dict], task: str = "bbox") -> COCOeval:
    """The reference: `eval` and `stats` of pycocotools; masks' areas are the masks'."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(_entries(found, task)), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def hotcoco_evaluation(truth: dict, found: list[dict], task: str = "bbox"):
    ground_truth = hotcoco.COCO(copy.deepcopy(truth))
    evaluation = hotcoco.COCOeval(ground_truth, ground_truth.load_res(_entries(found, task)), task)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()
    return evaluation


def _entries(found: list[dict], task: str) -> list[dict]:
    leave_out = "bbox" if task == "segm" else "segmentation"
    return [{k: v for k, v in copy.deepcopy(e).items() if k != leave_out} for e in found]


def masks_alike(masks: list[dict], truth: dict) -> bool:
    """Whether the masks are those that pycocotools makes of the annotations, in their order."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
    expected = [ground_truth.annToRLE(annotation) for annotation in truth["annotations"]]
    return masks == expected
