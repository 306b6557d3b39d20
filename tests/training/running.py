"""tools/train_net.py on a few real images, started here or in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "train_net.py"
RETINANET = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
MASK_RCNN = ROOT / "configs/demo/digits_mask_rcnn_softpool_R_18_FPN.yaml"
TINY = [
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.STEPS", (), "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "DATALOADER.NUM_WORKERS", 0),
    *("MODEL.DEVICE", "cpu", "SEED", 1),
]


def arguments(config, *options):
    return ["--config-file", str(config), *map(str, options)]


def start(environment, *options, program=(sys.executable, PROGRAM), **popen):
    return subprocess.Popen(
        list(map(str, (*program, *options))),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **popen,
    )


def finish(environment, *options, returncode=0, **popen):
    """What it prints."""
    process = start(environment, *options, **popen)
    output, _ = process.communicate()
    assert process.returncode == returncode, output[-4000:]
    return output


def wait_for(process, condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < end
        time.sleep(0.01)


def last_checkpoint(folder):
    """The iteration of it; -1 where there is none."""
    note = folder / "last_checkpoint"
    found = re.search(r"\d+", note.read_text()) if note.is_file() else None
    return int(found[0]) if found else -1


def kill(process, number=signal.SIGKILL):
    os.kill(process.pid, number)
    return process.communicate()[0]


def states(folder, name="model_final.pth"):
    """Everything in a checkpoint that a run goes on with, but for the clock."""
    checkpoint = torch.load(folder / name)
    checkpoint["trainer"]["hooks"].pop("TrainingClock")
    return checkpoint


def assert_same(left, right, where=""):
    """Nested containers of tensors and values: the same bits."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    else:
        assert left == right, where


def losses(folder):
    """By iteration, as in metrics.json: medians of 20 iterations."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}


def log_of(folder):
    """What processes that ran in a folder have logged."""
    return (folder / "log.txt").read_text()


def result(folder):
    return json.loads((folder / "result.json").read_text())


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path):
    path.write_bytes(path.read_bytes()[:300])


def first_image(folder):
    return sorted((folder / "images").iterdir())[0]
