"""Clips through the classifier's engine."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from torchvision.transforms import v2

from softpool_det.classification import train
from softpool_det.classification.config import Clips, Config, construct, load_config
from softpool_det.classification.datasets import multigrid, open_videos
from softpool_det.classification.module import Classifier
from softpool_det.classification.paper import Arm, arms_of
from softpool_det.classification.tables import Runs, table_7
from softpool_det.datasets.moving_digits import MovingDigits
from softpool_det.model_zoo import get_config_file
from softpool_det.training.signals import Interrupted
from softpool_det.video import NETWORKS
from softpool_det.video.multigrid import Multigrid, Shape

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = """
network: video/r3d_10
replace:
- {{where: stem, pool: SoftPool3d, kernel_size: 2, padding: 0, ceil_mode: true}}
train_data: {lists}/trainlist01.txt
val_data: {lists}/testlist01.txt
clips: {{frames: 8, videos: {videos}, train_strides: [1, 1], val_stride: 1}}
size: 32
batch_size: 2
num_workers: 0
optimizer: {{name: SGD, lr: 0.01}}
milestones: [1]
epochs: 2
trainer: {{accelerator: cpu, log_every_n_steps: 1}}
"""


@pytest.fixture(scope="module")
def recipe(digits_folder, tmp_path_factory):
    """80 clips for training and 10 for evaluation, of all ten classes."""
    lists = tmp_path_factory.mktemp("lists")
    for name, step in (("classInd.txt", 1), ("trainlist01.txt", 2), ("testlist01.txt", 7)):
        lines = (digits_folder / "ucfTrainTestlist" / name).read_text().splitlines()
        (lists / name).write_text("\n".join(lines[::step][:80]))
    path = lists / "clips.yaml"
    path.write_text(RECIPE.format(lists=lists, videos=digits_folder / "UCF-101"))
    return str(path)


def test_an_evaluation_needs_no_training_videos(digits_folder, tmp_path):
    video = digits_folder / "UCF-101" / "UpUp" / "v_UpUp_g01_c01.avi"
    (tmp_path / "train.csv").write_text("gone.avi 4")
    (tmp_path / "val.csv").write_text(f"{video} 1")
    lists = {f"{split}_data": str(tmp_path / f"{split}.csv") for split in ("train", "val")}
    found = open_videos(Config(**lists, clips=Clips(frames=2)), "val", v2.Identity())
    assert (found.targets, found.classes) == ([1], ["0", "1", "2", "3", "4"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["authors", "wu"])
def test_multigrid_trains_on_its_plan(recipe, tmp_path, variant):
    overrides = [f"clips.multigrid={variant}", f"output={tmp_path}"]
    result = train(load_config(recipe, overrides))
    plan = Multigrid(Shape(2, 8, 32), [1], 2, variant)
    assert result["steps"] == len(plan.rates(80))
    assert [entry["epoch"] for entry in result["history"]] == list(range(1, plan.total_epochs + 1))
    (log,) = tmp_path.rglob("metrics.csv")
    header, *rows = (row.split(",") for row in log.read_text().splitlines())
    column = header.index("lr")
    rates = [float(row[column]) for row in rows if row[column]]
    assert rates == pytest.approx([0.01 * rate for rate in plan.rates(80)])


def test_multigrid_needs_a_batch(recipe, tmp_path):
    overrides = ["clips.multigrid=authors", "batch_size=40", f"output={tmp_path}"]
    with pytest.raises(ValueError, match=r"batch_size is 40, .* fill no batch of epoch 1"):
        train(load_config(recipe, overrides))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["authors", "wu"])
def test_interrupted_in_a_later_epoch(recipe, tmp_path, monkeypatch, variant):
    """Resumed, it gives the weights of a run that nothing interrupted."""
    overrides = [f"clips.multigrid={variant}"]
    expected = train(load_config(recipe, [*overrides, f"output={tmp_path}/whole"]))
    plan, samples = Multigrid(Shape(2, 8, 32), [1], 2, variant), 80
    wanted = len(plan.epoch(0, samples)) + len(plan.epoch(1, samples)) // 2
    step, calls = Classifier.training_step, []

    def interrupted(module, *args):
        calls.append(args)
        if len(calls) == wanted:
            signal.raise_signal(signal.SIGTERM)
        return step(module, *args)

    cfg = load_config(recipe, [*overrides, f"output={tmp_path}/killed"])
    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "training_step", interrupted)
        with pytest.raises(Interrupted):
            train(cfg)
    result = train(cfg, resume=True)
    assert result["steps"] == expected["steps"] == len(plan.rates(samples))
    assert result["history"] == expected["history"]
    left, right = (
        load_file(tmp_path / name / "model_final.safetensors") for name in ("whole", "killed")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_keys_that_do_not_go_with_multigrid():
    recipe = get_config_file("video/hacs_paper.yaml")

    def grid(*overrides):
        return multigrid(load_config(recipe, overrides))

    assert grid("epochs=0") is None
    # Rates that would fall behind the end.
    assert grid("epochs=1").steps == []
    assert grid("epochs=41").steps == [40]
    for override, message in (
        ("warmup_epochs=1", "warmup_epochs must be 0 with clips.multigrid, got 1"),
        ("trainer.accumulate_grad_batches=2", "accumulate_grad_batches must be 1 with .*, got 2"),
        ("clips.multigrid=x", "clips.multigrid=x with .*must be 'authors' or 'wu', got 'x'"),
        ("milestones=[80,40]", r"milestones=\[80.*, 40.*\].*: steps must rise between 0 and 100"),
    ):
        with pytest.raises(ValueError, match=message):
            grid(override)
    with pytest.raises(ValueError, match=r"multigrid=wu with .* epochs=1: steps must"):
        grid("clips.multigrid=wu", "epochs=1")


@pytest.mark.slow
def test_weights_with_other_classes_begin_a_training(recipe, tmp_path, digits_folder):
    first = tmp_path / "first"
    cfg = load_config(recipe, ["epochs=0", f"output={first}"])
    train(cfg)
    lists = tmp_path / "lists"
    lists.mkdir()
    for split in ("train", "val"):
        folder = digits_folder / "UCF-101"
        lines = [f"{folder}/{n}/v_{n}_g0{i}_c01.avi {i}" for i, n in ((1, "UpUp"), (2, "DownUp"))]
        (lists / f"{split}.csv").write_text("\n".join(lines))
    overrides = [f"weights={first}/model_final.safetensors", f"output={tmp_path}/second"]
    overrides += [f"train_data={lists}/train.csv", f"val_data={lists}/val.csv", "epochs=1"]
    assert train(load_config(recipe, overrides))["steps"] == 1


def test_arms_of_table_7(tmp_path):
    arms = arms_of(7, [], [])
    assert [str(arm) for arm in arms[:2]] == ["video/r3d_50, Original", "video/r3d_101, Original"]
    assert len(arms) == 13
    lip = arms_of(7, [], ["lip"])
    assert len(lip) == 20
    assert [str(arm) for arm in lip[:2]] == ["video/r3d_50, Original", "video/r3d_50, LIPPool"]
    with pytest.raises(ValueError, match=r"name must be one of r3d_50, .*, got 'r3d50'"):
        arms_of(7, ["r3d50"], [])
    for data, one in (("digits", arms[0]), ("hacs", arms_of(5, [], [])[0])):
        with pytest.raises(ValueError, match=f"network {one.network} does not fit the data {data}"):
            Runs(data, tmp_path).train([one])


@pytest.mark.slow
def test_table_7_with_what_is_there(recipe, tmp_path):
    arms = arms_of(7, ["r3d_10"], [])
    runs = Runs("ucf101", tmp_path, (1,), 1, recipe, ["milestones=[]", "batch_size=40"])
    runs.train(arms)
    assert not runs.missing(arms)
    table = table_7(runs, [*arms, Arm("video/r3d_50", "SoftPool")])
    assert table.rows["r3d_50, SoftPool"]["HACS, top-1"].paper == 79.82
    assert "79.82 (+1.46)" in table.markdown()
    original, soft = (
        table.rows[f"r3d_10, {pool}"]["UCF-101, top-1"] for pool in ("Original", "SoftPool")
    )
    accuracy = json.loads((runs.path(arms[1], 1) / "result.json").read_text())["metrics"]["top1"]
    assert soft.ours == {1: accuracy}
    assert soft.baseline == (None, original.ours)
    assert original.paper is None


@pytest.mark.parametrize("name", ["hacs_paper", "kinetics700_paper", "moving_digits", "ucf101"])
def test_recipes(name):
    """They are read, and their transforms make squares of all frames."""
    cfg = load_config(get_config_file(f"video/{name}.yaml"))
    assert cfg.network.removeprefix("video/") in NETWORKS
    grid = multigrid(cfg)
    assert (grid is None) == (name == "moving_digits")
    assert grid is None or grid.shape == (64, 16, 256)
    # Otherwise digits that move down would look like those that move up.
    fastest = MovingDigits().speeds[1] * max(cfg.clips.train_strides)
    assert name != "moving_digits" or fastest < MovingDigits().side / 2
    for split in ("train", "val"):
        steps = [construct(v2, e, split) for e in getattr(cfg, f"{split}_transforms")]
        side = 48 if name == "moving_digits" else 400
        video = v2.Compose([*steps, v2.Identity()])(
            torch.zeros(2, 3, side, side, dtype=torch.uint8)
        )
        assert video.shape == (2, 3, cfg.size, cfg.size)
