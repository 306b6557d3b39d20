"""docs/other-detectors.md, Ultralytics: its own trainer, and its RT-DETR."""

import copy
import pickle

import numpy as np
import pytest
import torch
from learning import check_other_values
from PIL import Image
from torch import nn
from ultralytics import YOLO

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool2d


@pytest.fixture
def data(tmp_path):
    """Pictures with a bright box, in Ultralytics' layout."""
    generator = np.random.default_rng(1)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for index in range(4):
            pixels = generator.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            pixels[16:48, 16:48] += 150
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{index}.png")
            (tmp_path / "labels" / split / f"{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    path = tmp_path / "data.yaml"
    path.write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [box]\n")
    return path


def pools(model):
    return [m for m in model.modules() if isinstance(m, (SoftPool2d, nn.MaxPool2d))]


def test_trainer_trains_and_saves_soft_pooling(page, data):
    options = f'"{data}", project="{data.parent}", plots=False, workers=0, device="cpu"'
    namespace, _ = page.run("Ultralytics", 0, {'"data.yaml"': options})
    # What comes back is read from the checkpoint.
    model = namespace["model"]
    assert [type(pool) for pool in pools(model.model)] == [SoftPool2d] * 6
    before = YOLO("yolov3-tiny.yaml").model
    assert [type(pool) for pool in pools(before)] == [nn.MaxPool2d] * 6
    (result,) = model.predict(
        data.parent / "images/val/0.png", imgsz=64, conf=0.0, verbose=False, device="cpu"
    )
    assert result.names == {0: "box"}
    count = len(result.boxes)
    assert count > 0
    assert result.boxes.xyxy.shape == (count, 4)
    assert result.boxes.conf.shape == result.boxes.cls.shape == (count,)


def test_rtdetr(page):
    namespace, output = page.run("Ultralytics", 1)
    assert output == page.output("Ultralytics")
    model = namespace["model"].model.eval()
    stem = model.model[0]
    stock = copy.deepcopy(stem)
    assert replace_pooling(stock, pool="MaxPool2d")
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        check_other_values([stem(x)], [stock(x)])
        found = model(x)[0]
    # Box, score and class of every query.
    assert found.shape == (1, 300, 6)


def test_functional_poolings_of_yolov9():
    model = YOLO("yolov9t.yaml").model.eval()
    stock = copy.deepcopy(model)
    result = replace_pooling(model, "all")
    assert [row.name for row in result.replaced if "avg_pool2d" in row.name] == [
        f"model.{index}.avg_pool2d" for index in (3, 5, 7, 16, 19)
    ]
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        check_other_values([model.model[:4](x)], [stock.model[:4](x)])
        assert model(x)[0].shape == stock(x)[0].shape
    # As its checkpoints are written.
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x)[0], model(x)[0])
