import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from softpool_det.datasets import (
    MADE_DATASETS,
    digit_scenes,
    ensure_dataset,
    register_datasets,
    tree_crowns,
)
from softpool_det.datasets.cache import ensure_made

DIGITS = [*"0123456789"]
CLASSES = {"digit_scenes": DIGITS, "digit_scenes_hard": DIGITS, "tree_crowns": ["tree"]}


def _evaluate_the_truth(name, folder):
    """What COCOEvaluator finds of detections that are the ground truth."""
    evaluator = COCOEvaluator(name, output_dir=str(folder))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        objects = record["annotations"]
        boxes = [BoxMode.convert(o["bbox"], o["bbox_mode"], BoxMode.XYXY_ABS) for o in objects]
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(boxes))
        instances.scores = torch.ones(len(objects))
        instances.pred_classes = torch.tensor([o["category_id"] for o in objects])
        if "segmentation" in objects[0]:
            masks = [mask_util.decode(o["segmentation"]) for o in objects]
            instances.pred_masks = torch.stack([torch.from_numpy(m).bool() for m in masks])
        evaluator.process([record], [{"instances": instances}])
    return {task: values["AP"] for task, values in evaluator.evaluate().items()}


def _python(code, *arguments, root):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_metadata():
    register_datasets()
    sets = [(name, split) for name in CLASSES for split in ("train", "val")]
    assert {*MADE_DATASETS} == {f"{name}_{split}" for name, split in sets}
    for name, split in sets:
        assert f"{name}_{split}" in DatasetCatalog.list()
        metadata = MetadataCatalog.get(f"{name}_{split}")
        assert metadata.evaluator_type == "coco"
        assert metadata.thing_classes == CLASSES[name]


def test_coco_evaluator_finds_the_files_of_another_process(root, tmp_path, datasets_in):
    scenes = partial(digit_scenes.plain_scenes, split="val", count=30)
    digits = next(d for d in digit_scenes.DATASETS if d.name == "digit_scenes_val")
    trees = next(d for d in tree_crowns.DATASETS if d.name == "tree_crowns_val")
    for dataset in (replace(digits, scenes=scenes), trees):
        process = multiprocessing.get_context("fork").Process(
            target=ensure_made, args=(dataset, root)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
    with datasets_in(root):
        found = _evaluate_the_truth(digits.name, tmp_path / "output")
        assert found == pytest.approx({"bbox": 100, "segm": 100})
        assert _evaluate_the_truth(trees.name, tmp_path / "output") == pytest.approx({"bbox": 100})


def test_missing_builtin_coco_and_nothing_is_written(tmp_path):
    names = {
        "coco_2017_train": ("instances_train2017.json", "annotations_trainval2017.zip"),
        "coco_2017_val": ("instances_val2017.json", "annotations_trainval2017.zip"),
        "coco_2017_test-dev": ("image_info_test-dev2017.json", "image_info_test2017.zip"),
        "coco_2014_minival": ("instances_minival2014.json", "README.md"),
    }
    code = (
        "import sys; from softpool_det.datasets import ensure_dataset, register_datasets\n"
        "register_datasets(); register_datasets()\n"
        "for name in sys.argv[1:]:\n"
        "    try: ensure_dataset(name)\n"
        "    except FileNotFoundError as error: print(str(error).splitlines()[0])"
    )
    lines = _python(code, *names, root=tmp_path).splitlines()
    for line, (name, parts) in zip(lines, names.items(), strict=True):
        for part in (name, *parts, str(tmp_path / "coco" / "annotations")):
            assert part in line
    assert not list(tmp_path.iterdir())


def test_error_follows_what_is_missing(tmp_path):
    """The first line names the annotations, then the images, and no error is left at the end."""
    name, annotations = str(tmp_path), tmp_path / "annotations" / "instances_val2017.json"
    images = tmp_path / "val2017"
    register_coco_instances(name, {}, str(annotations), str(images))

    def first_line():
        with pytest.raises(FileNotFoundError) as error:
            ensure_dataset(name)
        return str(error.value).splitlines()[0]

    assert f"instances_val2017.json is missing, it belongs in {annotations.parent};" in first_line()
    annotations.parent.mkdir()
    annotations.write_text("{}")
    assert f"val2017 is missing, it belongs in {tmp_path};" in first_line()
    assert "/zips/val2017.zip" in first_line()
    images.mkdir()
    assert "val2017 is missing" in first_line()
    (images / "000000000139.jpg").touch()
    ensure_dataset(name)


def test_unknown_name():
    with pytest.raises(KeyError, match=r"'digit_scene'.*digit_scenes_train"):
        ensure_dataset("digit_scene")
