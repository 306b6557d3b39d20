"""A comparison on a user's data without configs: a split, and a schedule that fits."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from softpool_det.model_zoo import get_config_file

SPLIT_SEED, ONE_IN = 0, 5
# In AP: the widest range of an arm's seeds in benchmarks/results/demo_digits_retinanet.json.
DEMO_SPREAD = 4.12
# Of small images a CPU takes the demo's batch.
SMALL = 160
# Anchors start an octave below COCO's up to here.
LOW_ANCHORS = 512


class Recipe(NamedTuple):
    """How a model is trained.

    Args:
        configs: names in the model zoo, {} for "" or "_softpool".
        model: in words.
        rate, batch: learning rate, and the batch that it was chosen for.
        epochs: passes over the images.
        steps: of the learning rate, in parts of the iterations.
    """

    configs: str
    model: str
    rate: float
    batch: int
    epochs: int
    steps: Sequence[float]


_DEMO = (0.001, 8, 50, (0.68, 0.8, 0.86, 0.907, 0.933, 0.953))
_COCO = (16, 12, (2 / 3, 8 / 9))
# By masks, and whether there are weights to start from: the demo's recipe where nobody gave any.
RECIPES = {
    (False, False): Recipe("demo/digits_retinanet{}_R_18_FPN", "RetinaNet R18-FPN", *_DEMO),
    (True, False): Recipe("demo/digits_mask_rcnn{}_R_18_FPN", "Mask R-CNN R18-FPN", *_DEMO),
    (False, True): Recipe(
        "COCO-Detection/retinanet{}_R_18_FPN_1x", "RetinaNet R18-FPN", 0.01, *_COCO
    ),
    (True, True): Recipe(
        "COCO-InstanceSegmentation/mask_rcnn{}_R_34_FPN_1x", "Mask R-CNN R34-FPN", 0.02, *_COCO
    ),
}


# Most pixels of the shorter side, fewest and most iterations.
CPU, GPU = (256, 500, 1000), (800, 1000, 30000)


class Settings(NamedTuple):
    """How to train stock and SoftPool.

    Args:
        configs: files of the two.
        overrides: of both.
        notes: what to say about them.
        known_spread: between seeds of such runs, by task; None where it was never measured.
    """

    configs: tuple[str, str]
    overrides: list[str]
    notes: list[str]
    known_spread: Mapping[str, float] | None


def split(data: Mapping[str, Any], same: Sequence[tuple[int, int]]) -> tuple[dict, dict]:
    """Divide a data set by images at random, one in five to test on; always in the same way.

    Args:
        data: COCO's content without faults.
        same: pairs of places of images that stay together; an image is the second of one pair
            at most, and before that the first of none.

    Returns:
        The contents to train and to test on, all but images and annotations as it was.

    Raises:
        ValueError: there are fewer than two images with objects.
    """
    images = data["images"]
    group = list(range(len(images)))
    for first, other in same:
        group[other] = group[first]
    with_objects = {entry["image_id"] for entry in data["annotations"]}
    filled = {group[i] for i, image in enumerate(images) if image["id"] in with_objects}
    if len(filled) < 2:
        raise ValueError(f"images with objects: {len(filled)}; a split needs two, that differ")
    order = sorted(set(group))
    random.Random(SPLIT_SEED).shuffle(order)
    # Both parts get their share of the images without objects.
    tested = set(sorted(order, key=lambda number: number not in filled)[::ONE_IN])
    parts = []
    for is_test in (False, True):
        kept = [image for i, image in enumerate(images) if (group[i] in tested) == is_test]
        ids = {image["id"] for image in kept}
        entries = [entry for entry in data["annotations"] if entry["image_id"] in ids]
        parts.append({**data, "images": kept, "annotations": entries})
    return parts[0], parts[1]


def check_masks(data: Mapping[str, Any]) -> None:
    """Raise ValueError if an object has no segmentation, which Mask R-CNN needs."""
    without = sum(not entry.get("segmentation") for entry in data["annotations"])
    if without:
        raise ValueError(
            f"objects without a segmentation: {without}; leave out --masks (of make demo: "
            "MODEL=mask_rcnn), or give each one"
        )


def settings(
    data: Mapping[str, Any], masks: bool, chosen: Mapping[str, str], on_gpu: bool
) -> Settings:
    """Choose model and schedule by the size of a training set and the device.

    Args:
        data: COCO's content without faults, images with their sizes.
        masks: train Mask R-CNN, not RetinaNet.
        chosen: keys that the user has set; what follows from them follows these values.
        on_gpu: whether it is trained on one.

    Raises:
        ValueError: a value in `chosen` is not a number.
    """
    weights = chosen.get("MODEL.WEIGHTS", "")
    recipe = RECIPES[masks, bool(weights)]
    used = len({entry["image_id"] for entry in data["annotations"]})
    used = min(used, _chosen(chosen, "DATASETS.LIMIT_IMAGES", used))
    median = int(np.median([min(image["width"], image["height"]) for image in data["images"]]))
    values = _schedule(recipe, used, median, chosen, on_gpu)
    side = values["INPUT.MIN_SIZE_TEST"]
    batch = values["SOLVER.IMS_PER_BATCH"] * _chosen(chosen, "SOLVER.ACCUMULATE_STEPS", 1)
    iterations = values["SOLVER.MAX_ITER"]
    values |= {
        "INPUT.RANDOM_FLIP": "horizontal",
        "INPUT.MASK_FORMAT": "bitmask",
        "MODEL.ANCHOR_GENERATOR.SIZES": _anchors(16 if side <= LOW_ANCHORS else 32, masks),
        "MODEL.ALLOW_OTHER_STEM_POOL": bool(weights),
    }
    scratch = "from scratch (to start from weights: -- MODEL.WEIGHTS FILE)"
    start = f"from {weights}" if weights else scratch
    notes = [
        f"Model: {recipe.model}, stock and SoftPool, both {start}",
        f"Schedule: {iterations:,} iterations of {batch} images ({batch * iterations / used:.1f} "
        f"epochs), learning rate {values['SOLVER.BASE_LR']:g}, images with a shorter side of "
        f"{side}, on the {'GPU' if on_gpu else 'CPU'}",
        *_small_objects(data, side / median),
    ]
    configs = [get_config_file(f"{recipe.configs.format(arm)}.yaml") for arm in ("", "_softpool")]
    overrides = [text for key, value in values.items() for text in (key, str(value))]
    known_spread = None
    if not (masks or weights):
        known_spread = {"bbox": DEMO_SPREAD}
        notes.append(
            f"Noise: seeds of the digits demo differ by up to {DEMO_SPREAD} AP; yours may, too"
        )
    return Settings((configs[0], configs[1]), overrides, notes, known_spread)


def _schedule(
    recipe: Recipe, used: int, median: int, chosen: Mapping[str, str], on_gpu: bool
) -> dict[str, Any]:
    """Keys of solver and sizes, for images with objects and their median shorter side."""
    most_pixels, least, most = GPU if on_gpu else CPU
    side = _chosen(chosen, "INPUT.MIN_SIZE_TEST", min(most_pixels, median))
    batch = min(used, 8 if on_gpu or side <= SMALL else 4)
    batch = _chosen(chosen, "SOLVER.IMS_PER_BATCH", batch)
    step = batch * _chosen(chosen, "SOLVER.ACCUMULATE_STEPS", 1)
    iterations = min(most, max(least, math.ceil(recipe.epochs * used / step)))
    iterations = _chosen(chosen, "SOLVER.MAX_ITER", iterations)
    longest = math.ceil(side * 1333 / 800)
    return {
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.BASE_LR": recipe.rate * step / recipe.batch,
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.STEPS": tuple(sorted({int(step * iterations) for step in recipe.steps} - {0})),
        "SOLVER.WARMUP_ITERS": min(1000, iterations // 10),
        "SOLVER.CHECKPOINT_PERIOD": max(1, iterations // 3),
        "INPUT.MIN_SIZE_TRAIN": (side,),
        "INPUT.MIN_SIZE_TEST": side,
        "INPUT.MAX_SIZE_TRAIN": longest,
        "INPUT.MAX_SIZE_TEST": longest,
    }


def _chosen(chosen: Mapping[str, str], key: str, default: int) -> int:
    try:
        value = int(chosen.get(key, default))
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError(f"{key} is {chosen[key]!r}, must be a whole number, 1 or more")
    return value


def _anchors(smallest: int, masks: bool) -> list[list[float]]:
    """Five levels, an octave each: one size for the R-CNNs, three for RetinaNet."""
    thirds = (0,) if masks else (0, 1, 2)
    return [[smallest * 2 ** (level + third / 3) for third in thirds] for level in range(5)]


def _small_objects(data: Mapping[str, Any], scale: float) -> list[str]:
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in data["annotations"]]
    side = float(np.median(np.sqrt(areas))) * scale
    if side >= 16:
        return []
    remedy = "larger images may find more (-- INPUT.MIN_SIZE_TEST PIXELS)"
    return [f"Half of the objects are smaller than {side:.0f} pixels in them: {remedy}"]
