"""Ground truths that lack what pycocotools needs: the AP of complete ones."""

import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from PIL import Image

from softpool_det.coco.masks import area_of
from softpool_det.io.data_errors import DataError
from softpool_det.training.annotation_checks import check_evaluation_annotations
from softpool_det.training.evaluator import Evaluator

NAME = "completion_test"
# By COCO's limits of area, 32^2 and 96^2: small, medium, large, and a triangle that is medium by
# its box and small by its mask.
BOXES = [[20, 20, 20, 40], [20, 20, 40, 60], [60, 30, 120, 110], [10, 10, 60, 30]]
TRIANGLE = [[10, 10, 70, 10, 10, 40]]


def complete():
    images = [{"id": i, "file_name": f"{i}.png", "height": 200, "width": 300} for i in range(1, 5)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1 + i % 2, "bbox": box, "iscrowd": 0}
        for i, box in enumerate(BOXES)
    ]
    for entry, area in zip(annotations, (800, 2400, 13200, 900), strict=True):
        x, y, width, height = entry["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        entry |= {"area": area, "segmentation": [corners]}
    annotations[3]["segmentation"] = TRIANGLE
    return {"images": images, "categories": categories, "annotations": annotations}


def change(key, value, *lists):
    def apply(content):
        for entry in (entry for name in lists for entry in content[name]):
            if value is None:
                entry.pop(key)
            else:
                entry[key] = value(entry[key])

    return apply


def texts(content):
    change("id", "i{}".format, "images")(content)
    change("image_id", "i{}".format, "annotations")(content)
    change("id", "c{}".format, "categories")(content)
    change("category_id", "c{}".format, "annotations")(content)


NUMBERED = "annotation ids are replaced by 1, 2, ...: pycocotools rejects text ids"
AREAS = "4 of 4 annotations have no area; it is computed from the mask"
# (what is done to it, the line that says so)
CHANGES = {
    "whole": (lambda content: None, None),
    "no area": (change("area", None, "annotations"), AREAS),
    "null area": (change("area", lambda _: None, "annotations"), AREAS),
    "no iscrowd": (change("iscrowd", None, "annotations"), "4 of 4 annotations have no iscrowd"),
    # The match of 0 would count as none.
    "ids from 0": (change("id", lambda i: i - 1, "annotations"), NUMBERED),
    "ids in text": (change("id", "a{}".format, "annotations"), NUMBERED),
    "ids in text of images and categories": (texts, None),
    "no sizes": (change("height", None, "images"), "4 of 4 images have no size"),
}


@pytest.fixture
def register(tmp_path):
    """Registers a file with this content, under one name."""

    def register(content):
        (tmp_path / "instances.json").write_text(json.dumps(content))
        register_coco_instances(NAME, {}, str(tmp_path / "instances.json"), str(tmp_path))

    for number in range(1, 5):
        Image.new("L", (300, 200)).save(tmp_path / f"{number}.png")
    return register


def evaluate(fast):
    """AP of a detector that finds all but the triangle."""
    check_evaluation_annotations(NAME)
    records = DatasetCatalog.get(NAME)
    evaluator = Evaluator(NAME, ("bbox", "segm"), use_fast_impl=fast)
    evaluator.reset()
    for record in records:
        (entry,) = record["annotations"]
        x, y, width, height = entry["bbox"]
        if entry["segmentation"] == TRIANGLE:
            x, y = x + 100, y + 100
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor([[x, y, x + width, y + height]]).float())
        instances.scores = torch.tensor([0.9])
        instances.pred_classes = torch.tensor([entry["category_id"]])
        instances.pred_masks = torch.zeros(1, *instances.image_size, dtype=torch.bool)
        instances.pred_masks[:, y : y + height, x : x + width] = True
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize("fast", [True, False], ids=["Detectron2's", "pycocotools'"])
@pytest.mark.parametrize(("apply", "line"), CHANGES.values(), ids=CHANGES)
def test_ap_is_that_of_a_complete_file(register, tmp_path, apply, line, fast, caplog):
    content = complete()
    apply(content)
    register(content)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = evaluate(fast)
            for task in ("bbox", "segm"):
                sizes = [found[task][key] for key in ("APs", "APm", "APl")]
                assert sizes == pytest.approx([50, 100, 100])
                assert found[task]["AP-a"] == pytest.approx(100)
                # One of two objects is found, before any wrong one: COCO's 51 of 101 places.
                assert found[task]["AP-b"] == pytest.approx(100 * 51 / 101)
    assert json.loads((tmp_path / "instances.json").read_text()) == content
    lines = [record.getMessage() for record in caplog.records if "instances" in record.getMessage()]
    assert len(lines) == (line is not None)
    assert all(text.startswith(f"{tmp_path / 'instances.json'}: {line}") for text in lines)


def test_size_that_the_evaluator_cannot_read(register, tmp_path):
    content = complete()
    CHANGES["no sizes"][0](content)
    register(content)
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"no size, and .*2\.png: file not found"):
        Evaluator(NAME)


def test_area():
    square = {"size": [20, 30], "counts": [3, 5, 592]}
    box = {"bbox": [2, 2, 10, 4.5]}
    assert area_of(box, 20, 30) == 45
    assert area_of({**box, "segmentation": []}, 20, 30) == 45
    assert area_of({**box, "segmentation": None}, 20, 30) == 45
    assert area_of({**box, "segmentation": square}, 20, 30) == 5
    # 8 x 4 pixels, of which half lie outside the image; a line does not count.
    polygons = [[26, 2, 34, 2, 34, 6, 26, 6], [1, 1, 9, 9]]
    assert area_of({**box, "segmentation": polygons}, 20, 30) == 16
    assert area_of({**box, "segmentation": polygons[1:]}, 20, 30) == 45
    with pytest.raises(ValueError, match="add up to height x width"):
        area_of({**box, "segmentation": {**square, "counts": [3]}}, 20, 30)
