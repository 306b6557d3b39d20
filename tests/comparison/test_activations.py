"""Feature maps of real stems, against pooling them by hand."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from softpool_det.comparison import activations
from softpool_det.comparison.activations import activation_rows
from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.detector import load_detector

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
CHANGES = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", 64]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    made = []
    for name, part in (("stock", ""), ("SoftPool", "_softpool")):
        cfg = load_config(str(CONFIGS / f"digits_retinanet{part}_R_18_FPN.yaml"), CHANGES)
        torch.manual_seed(0)
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, folder / f"{name}.pth")
        made.append((name, cfg, folder / f"{name}.pth"))
    return made


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_row_for_each_detector_and_channel(detectors, picture):
    rows = activation_rows(detectors, picture, channels=2)
    assert [row.title.split(":")[0] for row in rows] == ["stock", "stock", "SoftPool", "SoftPool"]
    own = [
        next(label for label, _ in row.pictures if "as this detector does" in label) for row in rows
    ]
    assert [text.split()[0] for text in own] == ["max", "max", "SoftPool", "SoftPool"]
    for row in rows:
        assert [label.split(" pooling")[0] for label, _ in row.pictures] == [
            "before",
            "max",
            "SoftPool",
        ]


def test_shows_the_channels_that_vary_most_at_their_own_values(detectors, picture):
    name, cfg, weights = detectors[0]
    (row,) = activation_rows(detectors[:1], picture, channels=1)
    model = load_detector(cfg, weights)
    entry = activations.build_input_maker(cfg)(picture)
    with torch.inference_mode():
        image = model.preprocess_image([entry]).tensor
        features = F.relu(model.backbone.bottom_up.stem.conv1(image))[0]
        pooled = F.max_pool2d(features, 3, 2, 1)
    channel = int(features.std(dim=(1, 2)).argmax())
    assert row.title == f"{name}: channel {channel}"
    means = [float(re.search(r"mean ([\d.]+)", label)[1]) for label, _ in row.pictures]
    expected = [features[channel].mean().item(), pooled[channel].mean().item()]
    assert means[:2] == pytest.approx(expected, abs=0.006)
    # SoftPool lies between the mean and the maximum of a window.
    assert means[2] <= means[1]


def test_one_colour_scale_in_a_row():
    values = np.array([[0.0, 1.0], [2.0, 4.0]])
    dark, bright = pixels(activations._png(values, 4.0))[[5, -5], [5, -5]]
    assert dark.tolist() == [68, 1, 84]
    assert bright.tolist() == [253, 231, 36]
    half = pixels(activations._png(values / 2, 4.0))
    assert half[-5, -5].tolist() == pixels(activations._png(values, 4.0))[-5, 5].tolist()


def test_another_pooling_gets_a_panel_of_its_own(detectors, picture, monkeypatch):
    from softpool_det.modeling import PooledStem

    real = load_detector

    def with_average(cfg, weights):
        model = real(cfg, weights)
        bottom_up = model.backbone.bottom_up
        bottom_up.stem = PooledStem(bottom_up.stem, torch.nn.AvgPool2d(2, 2))
        return model

    monkeypatch.setattr(activations, "load_detector", with_average)
    (row,) = activation_rows(detectors[:1], picture, channels=1)
    assert [label.split(":")[0] for label, _ in row.pictures][-1] == "its own pooling"
    assert "Window 2x2, stride 2x2, padding 0x0" in row.caption


def test_arguments_are_checked(detectors, picture):
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        activation_rows(detectors, picture, channels=0)
    with pytest.raises(ValueError, match="'x' must have a BasicStem or a PooledStem, got a Linear"):
        activations._stem_of("x", torch.nn.Linear(1, 1))
