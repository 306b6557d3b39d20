import math
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from softpool_det.classification.build import build_model, build_optimizer, build_scheduler
from softpool_det.classification.config import identity, load_config

FOLDER = Path(__file__).parents[2] / "configs" / "classification"
STOCK = sorted(path.name for path in FOLDER.glob("*.yaml") if "softpool" not in path.name)


def config(name, *overrides):
    return load_config(str(FOLDER / name), overrides)


def test_there_are_configs():
    assert len(STOCK) == 4
    assert len(list(FOLDER.glob("*.yaml"))) == 8


@pytest.mark.parametrize("name", STOCK)
def test_twins_differ_in_the_pooling_alone(name):
    stock, soft = config(name), config(name.replace("_R_", "_softpool_R_"))
    assert stock.OUTPUT_DIR != soft.OUTPUT_DIR
    pool = soft.MODEL.STEM_POOL
    assert (pool.NAME, pool.KERNEL_SIZE, pool.STRIDE, pool.PADDING) == ("SoftPool2d", 2, 2, 0)
    soft.defrost()
    soft.MODEL.STEM_POOL = stock.MODEL.STEM_POOL
    assert identity(soft) == identity(stock)


def test_seed_decides_the_initial_weights():
    """The pooling has no parameters: with one seed both arms begin alike."""
    names = ("digits_R_18.yaml", "digits_softpool_R_18.yaml")
    stock, soft = (build_model(config(name, "MODEL.DEVICE", "cpu"), 10) for name in names)
    other = build_model(config(names[0], "MODEL.DEVICE", "cpu", "SEED", "2"), 10)
    assert stock.state_dict().keys() == soft.state_dict().keys()
    for key, value in stock.state_dict().items():
        assert torch.equal(value, soft.state_dict()[key])
    assert not torch.equal(stock.linear.weight, other.linear.weight)


def rates(cfg, iterations, epochs):
    """The rate in every iteration, of an epoch of so many."""
    model = torch.nn.Linear(1, 1)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_scheduler(cfg, optimizer, iterations)
    found = []
    for _ in range(iterations * epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedule_of_the_paper():
    found = rates(config("imagenet_paper_R_18.yaml"), iterations=7, epochs=100)
    expected = [0.1] * 40 * 7 + [0.01] * 40 * 7 + [0.001] * 20 * 7
    assert found == pytest.approx(expected)


def test_modern_schedule_is_torchs():
    cfg = config("imagenet_modern_R_50.yaml", "SOLVER.MAX_EPOCHS", "20")
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.5)
    warm, cosine = 5 * 4, 15 * 4
    expected_scheduler = SequentialLR(
        optimizer,
        [LinearLR(optimizer, 0.01, total_iters=warm), CosineAnnealingLR(optimizer, cosine)],
        milestones=[warm],
    )
    expected = []
    for _ in range(warm + cosine):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        expected_scheduler.step()
    assert rates(cfg, 4, 20) == pytest.approx(expected)
    assert expected[0] == pytest.approx(0.005)
    assert expected[warm + cosine // 2] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)) / 2)


def test_norms_have_a_weight_decay_of_their_own():
    cfg = config("imagenet_modern_R_50.yaml", "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18")
    model = build_model(cfg, 10)
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(cfg, model).param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0 if ".norm." in name else 2e-5), name


def test_unknown_key():
    with pytest.raises(KeyError, match=r"SOLVER\.EPOCHS; the nearest keys are SOLVER\.MAX_EPOCHS"):
        config("digits_R_18.yaml", "SOLVER.EPOCHS", "3")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd []", "!!python/name:print ''"])
def test_python_tags_are_refused(tag, tmp_path):
    path = tmp_path / "tagged.yaml"
    path.write_text(f"OUTPUT_DIR: {tag}\n")
    with pytest.raises(ValueError, match=r"line 1: the tag '!!python/.*nothing was run"):
        load_config(str(path))


def test_unknown_depth():
    with pytest.raises(ValueError, match=r"MODEL\.RESNETS\.DEPTH must be one of .*got 20"):
        build_model(config("digits_R_18.yaml", "MODEL.RESNETS.DEPTH", "20"), 10)
