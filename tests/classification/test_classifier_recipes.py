import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning import Trainer
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel

from softpool_det.classification.config import construct, identity, load_config
from softpool_det.classification.datasets import open_split
from softpool_det.classification.module import Classifier, build_scheduler

FOLDER = Path(__file__).parents[2] / "configs" / "classification"
STOCK = sorted(path.stem for path in FOLDER.glob("*.yaml") if "softpool" not in path.name)


def config(name, *overrides):
    return load_config(str(FOLDER / f"{name}.yaml"), overrides)


def test_there_are_configs():
    assert len(STOCK) == 4
    assert len(list(FOLDER.glob("*.yaml"))) == 8


@pytest.mark.parametrize("name", STOCK)
def test_twins_differ_in_the_pooling_alone(name):
    stock, soft = (yaml.safe_load(identity(config(n))) for n in (name, f"{name}_softpool"))
    window = {"kernel_size": 2, "padding": 0, "ceil_mode": True}
    assert (stock.pop("replace"), soft.pop("replace")) == (
        [],
        [{"where": "stem", "pool": "SoftPool2d", **window}],
    )
    assert stock == soft


def rates(cfg, iterations, epochs):
    """The rate in every iteration, of an epoch of so many."""
    optimizer = construct(torch.optim, cfg.optimizer, "", nn.Linear(1, 1).parameters())
    scheduler = build_scheduler(cfg, optimizer, iterations)
    found = []
    for _ in range(iterations * epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedule_of_the_paper():
    expected = [0.1] * 40 * 7 + [0.01] * 40 * 7 + [0.001] * 20 * 7
    assert rates(config("imagenet_paper"), iterations=7, epochs=100) == pytest.approx(expected)


def test_modern_schedule_is_torchs():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    warm, cosine = 5 * 4, 15 * 4
    parts = [LinearLR(optimizer, 0.01, total_iters=warm), CosineAnnealingLR(optimizer, cosine)]
    scheduler = SequentialLR(optimizer, parts, milestones=[warm])
    expected = []
    for _ in range(warm + cosine):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(config("imagenet_modern", "epochs=20"), 4, 20) == pytest.approx(expected)
    assert expected[0] == pytest.approx(0.005)
    assert expected[warm + cosine // 2] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)) / 2)


def test_norms_and_poolings_have_a_weight_decay_of_their_own(tiny):
    class Pool(nn.Module):
        undecayed = ("alpha",)

        def __init__(self):
            super().__init__()
            self.alpha = nn.Parameter(torch.ones(1))

    cfg = load_config(str(tiny), ["norm_weight_decay=0.25"])
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), Pool())
    module = Classifier(cfg, network, range(30), open_split(cfg, "val"))
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    decays = {
        id(parameter): group["weight_decay"]
        for group in module.configure_optimizers()[0][0].param_groups
        for parameter in group["params"]
    }
    assert AveragedModel(module).module.val_set is None  # it copies the module
    found = [decays[id(parameter)] for parameter in network.parameters()]
    assert found == [0.0005, 0.0005, 0.25, 0.25, 0.0]


def test_evaluation_sees_the_normalized_centre(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (40, 60, 3), np.uint8)
    (tmp_path / "class").mkdir()
    Image.fromarray(pixels).save(tmp_path / "class" / "0.png")
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 50.0, 40.0])
    overrides = [f"val_data={tmp_path}", "size=30", f"pixel_mean={mean.tolist()}"]
    overrides += [
        f"pixel_std={std.tolist()}",
        "val_transforms=[{name: CenterCrop, size: '${size}'}]",
    ]
    image, label = open_split(config("digits", *overrides), "val")[0]
    expected = (pixels[5:35, 15:45] - mean) / std
    torch.testing.assert_close(image, torch.from_numpy(expected.transpose(2, 0, 1)).float())
    assert label == 0


@pytest.mark.parametrize("name", STOCK)
def test_training_transforms(name, pictures):
    """They run, draw, and give squares of the size."""
    cfg = config(name, f"train_data={pictures}/train", "size=32")
    dataset = open_split(cfg, "train")
    views = [dataset[0][0] for _ in range(4)]
    assert {view.shape for view in views} == {(3, 32, 32)}
    assert len({view.sum().item() for view in views}) > 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", r"digits\.yaml: there is no key 'epoch' .*; the nearest are epochs"),
        ("epochs=many", r"digits\.yaml epochs=many: Value 'many' .* could not be converted to Int"),
        ("size=${sides}", r"'sides' not found"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises((KeyError, ValueError), match=message):
        config("digits", override)


def test_wrong_classes():
    with pytest.raises(ValueError, match=r"optimizer must name a class of torch\.optim, got 'SDG'"):
        construct(torch.optim, {"name": "SDG", "lr": 1}, "optimizer", [])
    with pytest.raises(ValueError, match=r"optimizer: SGD: .*unexpected keyword argument 'rate'"):
        construct(torch.optim, {"name": "SGD", "rate": 1}, "optimizer", [])
