"""kill -9 at a random moment, again and again: then the same command finishes, nothing is lost.

What is killed is the whole process group. The moments are drawn from a fixed seed; where the
program is then, depends on the machine.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from softpool_det.datasets import digit_scenes
from softpool_det.datasets.wheels import open_wheel
from softpool_det.io.archives import find_damage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
KILLS = 20
PREPARE = "from softpool_det.datasets import ensure_dataset; ensure_dataset('digit_scenes_val')"


@contextmanager
def started(environment, command):
    """The process, and a function that waits for its end and gives what it printed."""
    # A pipe that nobody reads would stop the process when it is full.
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def end():
            process.wait()
            printed.seek(0)
            return printed.read()

        yield process, end


def kill_again_and_again(environment, command, moment, check):
    """Kill it `KILLS` times, then let it end. Starts that ended before do not count."""
    killed = starts = 0
    while killed < KILLS:
        starts += 1
        assert starts <= 4 * KILLS, f"killed {killed} of {starts} times only"
        with started(environment, command) as (process, end):
            moment(process)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            output = end()
            killed += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), output[-3000:]
        check()
    with started(environment, command) as (process, end):
        output = end()
    assert process.returncode == 0, output[-3000:]
    print(f"killed {killed} times of {starts}")


def at_random(least, most):
    draw = random.Random(0)

    def wait(process):
        end = time.monotonic() + draw.uniform(least, most)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)

    return wait


def while_writing(folder):
    """In the writing of the first, second or third checkpoint of a process, or shortly after."""
    draw = random.Random(0)

    def partial():
        return {path.name for path in folder.glob(".partial-model*")}

    def wait(process):
        old, wanted = partial(), draw.randint(1, 3)
        new = set()
        while process.poll() is None and len(new) < wanted:
            new |= partial() - old
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.5))

    return wait


def tiny(iterations):
    options = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", iterations, "SOLVER.STEPS", ()]
    options += ["MODEL.FPN.OUT_CHANNELS", 16, "INPUT.MIN_SIZE_TRAIN", (64,)]
    options += ["INPUT.MIN_SIZE_TEST", 64, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0]
    return [*options, "DATALOADER.NUM_WORKERS", 0]


def training(folder, period, iterations):
    options = ["SEED", 1, "SOLVER.CHECKPOINT_PERIOD", period, "OUTPUT_DIR", folder]
    program = [sys.executable, ROOT / "tools" / "train_net.py", "--resume"]
    return [*program, "--config-file", CONFIG, *tiny(iterations), *options]


def states(folder):
    checkpoint = torch.load(folder / "model_final.pth")
    checkpoint["trainer"]["hooks"].pop("TrainingClock")
    return checkpoint


def same(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def result(folder):
    return json.loads((folder / "result.json").read_text())


def leftovers(folder):
    return list(folder.rglob(".partial-*"))


def test_checkpoints_are_whole_whenever_it_is_killed(environment, tmp_path):
    """At the writing of a checkpoint, each time. The end has the bits of a run without kills."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(list(map(str, training(whole, 1, 60))), env=environment, check=True)

    def check():
        for path in broken.glob("model_*.pth"):
            assert find_damage(path) is None, path

    kill_again_and_again(environment, training(broken, 1, 60), while_writing(broken), check)
    assert same(states(broken), states(whole))
    assert result(broken)["metrics"] == result(whole)["metrics"]
    assert not leftovers(broken)


def test_training_is_killed(environment, tmp_path):
    """At any moment: imports, reading, steps, evaluation."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [*training(broken, 5, 300), "TEST.EVAL_PERIOD", 50]
    plain = [*training(whole, 5, 300), "TEST.EVAL_PERIOD", 50]
    subprocess.run(list(map(str, plain)), env=environment, check=True)
    kill_again_and_again(environment, command, at_random(3, 14), lambda: None)
    assert same(states(broken), states(whole))
    assert result(broken)["metrics"] == result(whole)["metrics"]
    assert not leftovers(broken)


def test_data_set_preparation_is_killed(environment, tmp_path):
    open_wheel(digit_scenes.DIGITS, tmp_path).close()
    environment = {**environment, "DETECTRON2_DATASETS": str(tmp_path)}
    folder = tmp_path / "digit_scenes_val"

    def check():
        if folder.exists():  # then it is whole
            assert (folder / "manifest.json").is_file()

    command = [sys.executable, "-c", PREPARE]
    kill_again_and_again(environment, command, at_random(1, 7), check)
    assert len(list((folder / "images").iterdir())) == 500
    assert not leftovers(tmp_path)


@pytest.fixture(scope="module")
def detections(small_datasets, tmp_path_factory):
    """Ground truth and two result files of random boxes near the true ones."""
    folder = tmp_path_factory.mktemp("results")
    truth = small_datasets / "digit_scenes_val" / "annotations.json"
    annotations = json.loads(truth.read_text())["annotations"]
    files = []
    for seed in (0, 1):
        random_state = np.random.RandomState(seed)
        entries = [
            {
                **{key: annotation[key] for key in ("image_id", "category_id")},
                "bbox": (np.array(annotation["bbox"]) + random_state.rand(4)).tolist(),
                "score": random_state.rand(),
            }
            for annotation in annotations
        ]
        files.append(folder / f"{seed}.json")
        files[-1].write_text(json.dumps(entries))
    return truth, files


def test_compare_is_killed(environment, detections, tmp_path):
    truth, files = detections
    folder = tmp_path / "output"
    command = [sys.executable, ROOT / "tools" / "compare.py", "--gt", truth, "--output", folder]

    def check():
        if (folder / "comparison.json").exists():
            json.loads((folder / "comparison.json").read_text())
        if (folder / "report.html").exists():
            assert (folder / "report.html").read_text().rstrip().endswith("</html>")
        if (folder / "comparison.png").exists():
            assert (folder / "comparison.png").read_bytes().endswith(b"IEND\xaeB`\x82")

    kill_again_and_again(environment, [*command, *files], at_random(2, 12), check)
    check()
    assert {"report.html", "comparison.png"} <= {path.name for path in folder.iterdir()}
    assert not leftovers(folder)


def test_compare_is_killed_while_it_trains(environment, small_datasets, tmp_path):
    """With the training that it started; that goes on from its checkpoint."""
    arms = [ROOT / f"configs/demo/digits_retinanet{arm}_R_18_FPN.yaml" for arm in ("", "_softpool")]
    command = [sys.executable, ROOT / "tools" / "compare.py", "--output", tmp_path]
    command += ["--baseline", arms[0], "--candidate", arms[1], "--resamples", "50"]
    command += ["--", *tiny(60), "SOLVER.CHECKPOINT_PERIOD", 5]
    kill_again_and_again(environment, command, at_random(10, 25), lambda: None)
    data = json.loads((tmp_path / "comparison.json").read_text())
    for name, runs in data["runs"].items():
        assert runs["1"] == result(tmp_path / name / "seed_1")
    assert (tmp_path / "report.html").exists()
    assert not leftovers(tmp_path)


def test_export_is_killed(environment, detections, tmp_path):
    truth, files = detections
    content = json.loads(truth.read_text())
    info = tmp_path / "image_info_test-dev2017.json"
    info.write_text(json.dumps({key: content[key] for key in ("images", "categories")}))
    folder = tmp_path / "output"
    program = [sys.executable, ROOT / "tools" / "export_testdev.py"]
    command = [*program, "--results", files[0], "--alg", "chaos", "--output", folder]
    command += ["--image-info", info]
    name = folder / "detections_test-dev2017_chaos_results"

    def check():
        if name.with_suffix(".json").exists():
            assert len(json.loads(name.with_suffix(".json").read_text())) > 1

    kill_again_and_again(environment, command, at_random(1, 6), check)
    done = subprocess.run(
        list(map(str, [*program, "--validate", f"{name}.zip", "--image-info", info])),
        env=environment,
        check=False,
    )
    assert done.returncode == 0
    assert not leftovers(folder)
