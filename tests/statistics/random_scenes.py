"""Random but plausible COCO files: objects, crowds, detections near them and anywhere."""

import json

import numpy as np
from pycocotools import mask as mask_utils

SIDE = 128


def random_scenes(seed, images=20, categories=3, masks=False, tied_scores=False, crowds=0.1):
    """Ground truth and result list of one detector, as Python objects for json.dump."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, images + 1):
        for _ in range(random.integers(0, 6)):
            box = random_box(random)
            category = int(random.integers(1, categories + 1))
            annotation = shape(box, masks) | {"image_id": image_id, "category_id": category}
            annotation |= {"id": len(annotations) + 1, "iscrowd": int(random.random() < crowds)}
            annotation["area"] = float(box[2] * box[3])
            annotations.append(annotation)
            for _ in range(random.integers(0, 4)):
                near = jittered(random, box, random.choice([0.03, 0.15, 0.5]))
                kept = random.random() < 0.8
                guess = category if kept else int(random.integers(1, categories + 1))
                results.append(
                    shape(near, masks)
                    | {
                        "image_id": image_id,
                        "category_id": guess,
                        "score": score(random, tied_scores),
                    }
                )
        for _ in range(random.integers(0, 12)):
            results.append(
                shape(random_box(random), masks)
                | {
                    "image_id": image_id,
                    "category_id": int(random.integers(1, categories + 1)),
                    "score": score(random, tied_scores),
                }
            )
    return ground_truth(images, categories, annotations), results


def ground_truth(images, categories, annotations):
    """A COCO ground truth of images of SIDE x SIDE pixels, numbered from 1 like its categories."""
    return {
        "images": [{"id": i + 1, "height": SIDE, "width": SIDE} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(categories)],
        "annotations": annotations,
    }


def random_box(random):
    x, y = random.integers(0, SIDE - 10, 2)
    width, height = random.integers(5, [SIDE - x, SIDE - y])
    return [int(value) for value in (x, y, width, height)]


def jittered(random, box, amount):
    x, y, width, height = box
    dx, dy = random.normal(0, amount, 2) * [width, height]
    left, top = np.clip([x + dx, y + dy], 0, SIDE - 4).round()
    size = np.array([width, height]) * np.exp(random.normal(0, amount, 2))
    corner = np.array([left, top]) + np.maximum(size.round(), 2)
    right, bottom = np.minimum(corner, SIDE)
    return [float(value) for value in (left, top, right - left, bottom - top)]


def score(random, tied):
    return float(random.choice([0.2, 0.5, 0.8])) if tied else float(random.random())


def shape(box, masks):
    """The box, or with masks the ellipse in it."""
    if not masks:
        return {"bbox": box}
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    x, y, width, height = box
    inside = ((columns - x) / width * 2 - 1) ** 2 + ((rows - y) / height * 2 - 1) ** 2 <= 1
    encoded = mask_utils.encode(np.asfortranarray(inside.astype(np.uint8)))
    counts = encoded["counts"].decode()
    return {"bbox": box, "segmentation": {"size": [SIDE, SIDE], "counts": counts}}


def write(folder, **files):
    """Write each as JSON; returns their paths in order."""
    paths = []
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        paths.append(path)
    return paths
