"""The evaluations of a training: their workers, and their files."""

import json
import multiprocessing

import pytest
import torch
from detectron2.config import LazyCall
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from running import RETINANET, TINY

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.evaluator import Evaluator
from softpool_det.training.lazy import build_evaluator

NAME = "digit_scenes_val"
FILES = {"coco_instances_results.json", "instances_predictions.pth"}


@pytest.fixture(autouse=True)
def registered(small_datasets, datasets_in):
    with datasets_in(small_datasets):
        yield


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_stay_where_the_config_says_so(persistent, tmp_path):
    options = [*TINY, "DATALOADER.NUM_WORKERS", 2, "DATALOADER.PERSISTENT_WORKERS", persistent]
    cfg = load_config(str(RETINANET), [str(part) for part in [*options, "OUTPUT_DIR", tmp_path]])
    before = set(multiprocessing.active_children())
    workers, images = [], []
    for _ in range(2):
        found = []
        for batch in Trainer.build_test_loader(cfg, NAME):
            workers.append({w.pid for w in set(multiprocessing.active_children()) - before})
            found += [(record["image_id"], record["image"]) for record in batch]
        images.append(found)
    assert all(len(pids) == 2 for pids in workers)
    assert (workers[0] == workers[-1]) == persistent
    for (first, left), (second, right) in zip(*images, strict=True):
        assert first == second
        assert torch.equal(left, right)
    # A config of its own has a loader of its own.
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 32
    assert next(iter(Trainer.build_test_loader(cfg, NAME)))[0]["image"].shape[1] == 32


def evaluate(folder, detections):
    """Of as many detections in each image, all of one box."""
    evaluator = Evaluator(NAME, output_dir=str(folder))
    evaluator.reset()
    for image_id, image in evaluator._coco_api.imgs.items():
        size = image["height"], image["width"]
        boxes = Boxes(torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(detections, 1))
        fields = {"scores": torch.rand(detections), "pred_classes": torch.zeros(detections).long()}
        instances = Instances(size, pred_boxes=boxes, **fields)
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_of_an_evaluation_that_fails_are_those_before(small_disk):
    disk = small_disk(1)
    folder = disk / "run" / "inference"
    assert "AP50" in evaluate(folder, 1)["bbox"]
    before = contents(folder)
    assert before.keys() == FILES
    json.loads(before["coco_instances_results.json"])
    with pytest.raises(OSError, match=rf"^{folder} cannot be written \(.*: No space left"):
        evaluate(folder, 2000)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["inference"]


def test_equal_scores_count_the_same_in_any_order_of_images(tmp_path):
    """As several processes give them: Detectron2's table orders equal scores by image."""
    tables = []
    for step in (1, -1):
        evaluator = Evaluator(NAME, output_dir=str(tmp_path))
        evaluator.reset()
        numbers = evaluator._metadata.thing_dataset_id_to_contiguous_id
        for image_id, image in list(evaluator._coco_api.imgs.items())[::step]:
            right = evaluator._coco_api.imgToAnns[image_id][: image_id % 2]
            boxes = [annotation["bbox"] for annotation in right] + [[0.0, 0.0, 9.0, 9.0]]
            boxes = torch.tensor(boxes, dtype=torch.float32)
            boxes[:, 2:] += boxes[:, :2]
            size = image["height"], image["width"]
            classes = [numbers[a["category_id"]] for a in right] + [0]
            fields = {"scores": torch.ones(len(boxes)), "pred_classes": torch.tensor(classes)}
            instances = Instances(size, pred_boxes=Boxes(boxes), **fields)
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
        tables.append(evaluator.evaluate()["bbox"])
    assert tables[0]["AP50"] > 0
    assert str(tables[0]) == str(tables[1])


def test_lazy_configs_get_that_evaluator(tmp_path):
    cfg = OmegaConf.create({"folder": str(tmp_path)}, flags={"allow_objects": True})
    cfg.ours = LazyCall(COCOEvaluator)(dataset_name=NAME, output_dir="${folder}")
    cfg.both = [cfg.ours, LazyCall(DatasetEvaluator)()]
    built = build_evaluator(cfg.ours)
    assert type(built) is Evaluator
    assert built._output_dir == str(tmp_path)
    assert [type(each) for each in build_evaluator(cfg.both)] == [Evaluator, DatasetEvaluator]
