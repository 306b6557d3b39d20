"""What a user may ask of a training: large steps, averaged weights, an early end, few images."""

import json
import os
import pty
import re
import termios

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.utils.events import EventStorage
from running import (
    MASK_RCNN,
    RETINANET,
    TINY,
    assert_same,
    last_checkpoint,
    log_of,
    losses,
    result,
    states,
)
from torch.nn.modules.module import register_module_forward_pre_hook

from softpool_det.comparison.arms import Arm, Run
from softpool_det.training.hooks import ProgressLine

pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")

# Norms that see one image at a time, so that a batch may be shared out.
SHORT = [*TINY, "SOLVER.MAX_ITER", 3, "MODEL.RESNETS.NORM", "GN"]
SHORT += ["MODEL.FPN.NORM", "", "MODEL.RETINANET.NORM", "", "MODEL.ROI_MASK_HEAD.NORM", ""]
BOTH = [RETINANET, pytest.param(MASK_RCNN, marks=pytest.mark.slow)]
BOTH_KINDS = pytest.mark.parametrize("config", BOTH, ids=lambda config: config.stem[7:16])
# With a learning rate of 0 nothing gets better.
WAITING = ["TEST.EVAL_PERIOD", 1, "TEST.BEST_METRIC", "bbox/AP", "TEST.PATIENCE", 1]
STUCK = [*SHORT, *WAITING, "SOLVER.BASE_LR", 0.0, "SOLVER.MAX_ITER", 50]


@pytest.fixture
def train(train_here, tmp_path):
    """Trains in a folder of this test; gives the folder."""

    def run(name, *options, config=RETINANET, flags=()):
        train_here("--config-file", config, *flags, *options, "OUTPUT_DIR", tmp_path / name)
        return tmp_path / name

    return run


def weights(folder, name="model_final.pth"):
    return torch.load(folder / name)["model"]


def assert_near(left, right, tolerance):
    assert left.keys() == right.keys()
    for key in left:
        torch.testing.assert_close(
            left[key],
            right[key],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, key=key: f"{key}: {text}",
        )


def change(before, after):
    """All differences of weights, one behind the other."""
    assert before.keys() == after.keys()
    return torch.cat([(after[key] - before[key]).double().flatten() for key in before])


# Limits that are reached; without them the scale of the gradients would not be seen.
CLIPPED = ["SOLVER.FULL_MODEL_CLIP_NORM", 0.5]
# Large enough for two rows in p6: of a bfloat16 convolution over one, oneDNN leaves parts of the
# weights' gradient unwritten (torch 2.11 on CPUs; docs/training.md).
HALF = [*CLIPPED, "INPUT.MIN_SIZE_TRAIN", (128,), "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE"]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        pytest.param([], 1e-4, marks=pytest.mark.slow),
        (CLIPPED, 1e-4),
        pytest.param([*HALF, "bfloat16"], 5e-2, marks=pytest.mark.slow),
        pytest.param([*HALF, "float16"], 1e-2, marks=pytest.mark.slow),
    ],
    ids=["plain", "clipped", "bfloat16", "float16"],
)
def test_several_batches_are_a_large_one(train, options, tolerance):
    # Adam's steps are of one size, however small a gradient is, and so would be rounding's.
    options = [*SHORT, *options, "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 0.01]
    options += ["SOLVER.WARMUP_ITERS", 0]
    start = weights(train("start", *options, "SOLVER.BASE_LR", 0.0, "SOLVER.MAX_ITER", 1))
    large = train("large", *options, "SOLVER.IMS_PER_BATCH", 4)
    several = ["SOLVER.IMS_PER_BATCH", 1, "SOLVER.ACCUMULATE_STEPS", 4]
    small = train("small", *options, *several)
    # Rounding can move one number far, where it decides what a ReLU passes, but not all of them.
    difference = change(weights(large), weights(small)).norm()
    moved = change(start, weights(large)).norm()
    assert difference <= tolerance * moved
    assert states(small)["iteration"] == 2  # steps are counted
    assert losses(small) == pytest.approx(losses(large), rel=tolerance)


@BOTH_KINDS
def test_averaged_weights(train, config):
    every = ["SOLVER.EMA_DECAY", 0.75, "SOLVER.CHECKPOINT_PERIOD", 1]
    folder = train("averaged", *SHORT, *every, config=config)
    averaged = None
    for number in range(3):
        checkpoint = torch.load(folder / f"model_{number:07d}.pth")
        trained = checkpoint["trainer"]["hooks"]["AveragedWeights"]["model"]
        if averaged is None:
            averaged = trained
        averaged = {key: 0.75 * averaged[key] + 0.25 * value for key, value in trained.items()}
        assert_near(checkpoint["model"], averaged, 1e-6)
    assert_same(weights(folder), checkpoint["model"])
    evaluation = ["MODEL.WEIGHTS", folder / "model_final.pth"]
    again = train("again", *SHORT, *evaluation, config=config, flags=["--eval-only"])
    found = json.loads((again / "evaluation.json").read_text())
    assert found["metrics"] == result(folder)["metrics"]
    # The training itself is the same.
    assert_same(weights(train("plain", *SHORT, config=config)), trained)


@pytest.mark.slow
@BOTH_KINDS
@pytest.mark.parametrize("place", ["step", "evaluation"])
def test_resumes_with_the_same_bits(train, signalled, config, place, tmp_path):
    options = [*SHORT, *WAITING, "SOLVER.EMA_DECAY", 0.5, "SOLVER.ACCUMULATE_STEPS", 2]
    options += ["SOLVER.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 4, "TEST.PATIENCE", 3]
    options += ["SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2]
    whole = train("whole", *options, config=config, flags=["--resume"])

    def is_there():
        log = tmp_path / "broken" / "log.txt"
        if place == "step":
            return last_checkpoint(log.parent) >= 0
        return log.is_file() and "Start inference" in log.read_text()

    with signalled(15, is_there):
        train("broken", *options, config=config, flags=["--resume"])
    broken = tmp_path / "broken"
    assert not (broken / "result.json").exists()
    train("broken", *options, config=config, flags=["--resume"])
    assert "Starting training from iteration" in log_of(broken)
    for name in ("model_final.pth", "model_best.pth"):
        assert_same(states(broken, name), states(whole, name))
    assert result(broken)["metrics"] == result(whole)["metrics"]


def test_ends_early_with_the_best(train):
    folder = train("stuck", *STUCK)
    assert "bbox/AP was not better than" in log_of(folder)
    assert states(folder)["iteration"] == 1
    assert states(folder, "model_best.pth")["iteration"] == 0
    # What a user loads from the folder, and what was evaluated last.
    assert (folder / "last_checkpoint").read_text() == "model_best.pth"
    [remark] = result(folder)["remarks"]
    assert "chosen by bbox/AP on the data that it is tested on (digit_scenes_val)" in remark
    before = result(folder)["metrics"]
    (folder / "result.json").unlink()  # killed in the last evaluation
    train("stuck", *STUCK, flags=["--resume"])
    assert states(folder)["iteration"] == 1
    assert result(folder)["metrics"] == before
    loaded = log_of(folder).count("model_best.pth ...")
    train("stuck", *STUCK, flags=["--eval-only", "--resume"])
    assert log_of(folder).count("model_best.pth ...") > loaded


def test_waits_for_the_first_detection(train):
    """AP of no detections is NaN, not a figure that later ones have to beat."""
    options = [*STUCK, "SOLVER.MAX_ITER", 3, "MODEL.RETINANET.SCORE_THRESH_TEST", 1.0]
    folder = train("blind", *options)
    assert "the training ends here" not in log_of(folder)
    assert states(folder)["iteration"] == 2


def test_choice_on_a_set_of_its_own(train):
    folder = train("chosen", *STUCK, "DATASETS.VALIDATION", ("digit_scenes_train",))
    assert "remarks" not in result(folder)
    detections = json.loads((folder / "inference/coco_instances_results.json").read_text())
    assert len({entry["image_id"] for entry in detections}) <= 6  # of the test set, not of 8
    tested = re.findall(r"Evaluation results for (\w+) in csv", log_of(folder))
    assert tested == ["digit_scenes_train"] * 2 + ["digit_scenes_val"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TEST.BEST_METRIC", "bbox/AP"], r"need TEST\.EVAL_PERIOD, .* above 0, got 0"),
        (["TEST.PATIENCE", 2], "need TEST.EVAL_PERIOD"),
        (["TEST.PATIENCE", 2, "TEST.EVAL_PERIOD", 1], r"needs a TEST\.BEST_METRIC such as bbox/AP"),
        ([*WAITING, "DATASETS.TEST", ()], "need images to evaluate on"),
        ([*WAITING, "TEST.BEST_METRIC", "AP"], r"AP is not one of: bbox/AP, bbox/AP50"),
        (["SOLVER.EMA_DECAY", 1.5], r"EMA_DECAY must be 0, or above 0 and below 1, got 1\.5"),
        (["SOLVER.ACCUMULATE_STEPS", 0], r"ACCUMULATE_STEPS must be 1 or more, got 0"),
        (["DATASETS.LIMIT_IMAGES", -1], r"LIMIT_IMAGES must be 0 or more, got -1"),
        (["LOG.WRITERS", ("visdom",)], r"WRITERS must be of wandb, mlflow, got 'visdom'"),
    ],
)
def test_says_what_is_wrong(train, options, message):
    with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
        train("wrong", *SHORT, *options)


def test_few_images(train, tmp_path):
    folder = train("quick", *SHORT, flags=["--limit-images", 2])
    assert "2 images to train on, 2 images to test on" in log_of(folder)
    assert "A quick run, of 2 images a data set" in log_of(folder)
    assert "LIMIT_IMAGES: 2" in (folder / "config.yaml").read_text()
    assert result(folder)["remarks"] == [
        "A quick run, of 2 images a data set (DATASETS.LIMIT_IMAGES)."
    ]
    detections = json.loads((folder / "inference/coco_instances_results.json").read_text())
    assert 0 < len({entry["image_id"] for entry in detections}) <= 2
    # The run's own config names the files that it left.
    evaluation = ["MODEL.WEIGHTS", folder / "model_final.pth"]
    again = train("again", *evaluation, config=folder / "config.yaml", flags=["--eval-only"])
    found = json.loads((again / "evaluation.json").read_text())
    assert found["metrics"] == result(folder)["metrics"]


def test_a_quick_run_is_not_taken_for_a_whole_one(tmp_path):
    quick = Arm("a", str(RETINANET), ("DATASETS.LIMIT_IMAGES", "2"))
    with Run(quick, 1, tmp_path / "seed_1").claimed():
        pass
    with (
        pytest.raises(FileExistsError, match="LIMIT_IMAGES: 2"),
        Run(Arm("a", str(RETINANET)), 1, tmp_path / "seed_1").claimed(),
    ):
        pass


@pytest.fixture
def small_memory():
    """As on a GPU whose memory does not hold a batch of more than two images."""

    def check(module, inputs):
        is_training = isinstance(module, RetinaNet | GeneralizedRCNN) and module.training
        if is_training and len(inputs[0]) > 2:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of ..."
            )

    handle = register_module_forward_pre_hook(check)
    yield
    handle.remove()


@BOTH_KINDS
def test_out_of_memory(train, small_memory, config):
    """Unverified on a GPU: the exception is the real one, what raises it is not."""
    with pytest.raises(SystemExit) as error:
        train("large", *SHORT, "SOLVER.IMS_PER_BATCH", 8, config=config)
    assert error.value.code == (
        "error: iteration 0: CUDA out of memory; set SOLVER.IMS_PER_BATCH 2 (largest that fits, "
        "tried now) and SOLVER.ACCUMULATE_STEPS 4, which together make steps of 8 images as before"
    )
    advice = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.ACCUMULATE_STEPS", 4]
    assert result(train("small", *SHORT, *advice, config=config))["train_seconds"] > 0


def test_one_small_image(train):
    size = ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MAX_SIZE_TRAIN", 64]
    with pytest.raises(SystemExit) as error:
        train("single", *TINY, *size, "SOLVER.IMS_PER_BATCH", 1, "MODEL.FPN.NORM", "BN")
    assert "set SOLVER.IMS_PER_BATCH to 2 or more" in error.value.code


def test_lazy_config(train_here, lazy_config, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(lazy_config)
    options = ["accumulate_steps=2", "ema_decay=0.5", "best_metric=bbox/AP", "patience=1"]
    options += ["eval_period=1", "max_iter=20", f"output_dir={tmp_path / 'run'}", "device=cpu"]
    given = [f"train.{option}" for option in options]
    given += ["datasets.validation=[digit_scenes_train]", "optimizer.lr=0"]
    # A batch norm's statistics would change what is evaluated.
    given += [
        f"model.backbone.{part}.norm=GN" for part in ("bottom_up.stem.stem", "bottom_up.stages")
    ]
    flags = ["--trust-lazy-config", "--limit-images", 4]
    train_here("--config-file", config, *flags, *given)
    run = tmp_path / "run"
    assert states(run)["iteration"] == 1
    assert states(run, "model_best.pth")["iteration"] == 0
    assert "AveragedWeights" in states(run)["trainer"]["hooks"]
    [remark] = result(run)["remarks"]
    assert remark.startswith("A quick run, of 4 images a data set")
    tested = re.findall(r"Loaded (\d+) images in COCO format from .*?/(\w+)\.json", log_of(run))
    assert {count for count, _ in tested} == {"4"}
    # The validation set, until the end.
    assert [name.endswith("of_8") for _, name in tested] == [True] * (len(tested) - 1) + [False]


def test_progress_on_a_terminal(monkeypatch):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with open(terminal, "w") as stderr, EventStorage(0) as storage:
        monkeypatch.setattr("sys.stderr", stderr)
        storage.put_scalar("total_loss", 1.5)
        line = ProgressLine("training", 10)
        line.write()
        line.close()
        assert b"training:  10%" in os.read(controller, 10_000)
    os.close(controller)


@pytest.mark.parametrize("writer", ["wandb", "mlflow"])
def test_writers(train, monkeypatch, tmp_path, writer):
    pytest.importorskip(writer)
    monkeypatch.setenv("WANDB_MODE", "offline")
    # Its default, a database, needs more than the smaller of its packages has.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    options = [*SHORT, "LOG.WRITERS", (writer,)]
    folder = train("run", *options)
    name = (folder / f"{writer}_run").read_text()
    train("run", *options, "SOLVER.MAX_ITER", 4, flags=["--resume"])
    assert (folder / f"{writer}_run").read_text() == name
    if writer == "wandb":
        assert list(folder.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    else:
        [losses] = tmp_path.glob(f"mlruns/*/{name}/metrics/total_loss")
        assert [line.split()[2] for line in losses.read_text().splitlines()] == ["2", "3"]
