"""Checks of many annotations at once, against those of each."""

import random
from pathlib import Path

import numpy as np
import pytest
from annotation_files import FAULTS, NAN, SQUARE, annotation, coco, rle

from softpool_det.coco import annotations
from softpool_det.coco.annotations import numbered_faults

POLYGONS = [
    [SQUARE],
    [[2, 2, 9, 2, 5, 2]],
    [SQUARE, [1, 1]],
    [SQUARE, [1, 1, 3]],
    [SQUARE, SQUARE[::-1]],
    [[0, 0, 1e-3, 0, 0, 1e-3]],
    [[2**20, 0, 5, 0, 0, 5]],
    [[2**20 + 1, 0, 5, 0, 0, 5]],
    [[0, 0, 9e5, 9e5] * 9],
    [[2, 2, NAN, 2, 5, 9]],
    [[2, 2, True, 2, 5, 9]],
    [[2, 2, "9", 2, 5, 9]],
    [[2, 2, 10**400, 2, 5, 9]],
    [SQUARE, None],
    [[]],
    [],
    None,
    "text",
    rle(),
]


@pytest.mark.parametrize("seed", range(5))
def test_many_annotations_at_once_have_the_faults_of_each(seed, monkeypatch):
    """The checks of whole columns find right only what the rules find right, one by one."""
    chance = random.Random(seed)
    changes = [c for c, _ in FAULTS.values() if "id" not in c]
    changes += [{"segmentation": s} for s in POLYGONS]
    changes += [{"area": None}, {"area": []}, {"iscrowd": True}, {"image_id": True}, {}, {}]
    chosen = [chance.choice(changes) for _ in range(chance.choice([3, 3000]))]
    content = coco(*(annotation(number, **c) for number, c in enumerate(chosen)))
    together = dict(numbered_faults(Path("x"), content))
    monkeypatch.setattr(
        annotations, "_surely_right", lambda entries, *_: np.zeros(len(entries.entries), bool)
    )
    assert together == dict(numbered_faults(Path("x"), content))
    assert len(together) < len(chosen) or len(chosen) == 3


def test_the_only_category_is_named_as_such():
    wrong = annotation(1, category_id=8)
    content = coco(wrong, categories=[{"id": 7, "name": "seven"}])
    ((_, (_, reason)),) = numbered_faults(Path("a.json"), content)
    assert reason == "category_id is 8, must be 7, the only category id"
