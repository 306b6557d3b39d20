"""tools/train_net.py as torchrun's processes, on one machine and on two hosts."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from running import (
    PROGRAM,
    RETINANET,
    TINY,
    arguments,
    assert_same,
    finish,
    kill,
    last_checkpoint,
    result,
    start,
    states,
    wait_for,
)

from softpool_det.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")

ITERATIONS = 20
# A batch has batch statistics; of a part of it they are others.
FROZEN = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "", "MODEL.RETINANET.NORM", ""]
# AdamW's first steps have the size of the rate, whatever that of a gradient: where the gradient is
# nothing but rounding, so is the direction. Clipping hides the size of gradients as well.
# At larger rates the training is unsteady: at 0.01 rounding grew to 0.8 % of a weight's way.
RATE = 0.006
SGD = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", RATE, "SOLVER.WEIGHT_DECAY", 0.0]
SGD += ["SOLVER.FULL_MODEL_CLIP_NORM", 0.0, "SOLVER.WARMUP_ITERS", 0]
# Relative to a loss, and to how far training moved a weight.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 3e-5, 1e-3
# tools/train_net.py, but keeps the first weights and every loss: metrics.json has medians of 20.
WATCHED = f"""
import json, pathlib, runpy
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from softpool_det.training.trainer import Trainer

class Watch(HookBase):
    def __init__(self, folder):
        self.folder, self.losses = pathlib.Path(folder), []

    def before_train(self):
        if comm.is_main_process():
            torch.save(self.trainer.checkpointer.model.state_dict(), self.folder / "first.pth")

    def after_step(self):
        if comm.is_main_process():
            self.losses.append(self.trainer.storage.history("total_loss").latest())
            (self.folder / "losses.json").write_text(json.dumps(self.losses))

hooks = Trainer.build_hooks
Trainer.build_hooks = lambda self: [*hooks(self), Watch(self.cfg.OUTPUT_DIR)]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    program = tmp_path_factory.mktemp("watched") / "train_net.py"
    program.write_text(WATCHED)
    return program


def torchrun(processes, *options, program=PROGRAM):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return (*torchrun, f"--nproc-per-node={processes}", *options, program)


def options(folder, *changes, batch=8, iterations=ITERATIONS):
    tiny = [*TINY, "SOLVER.IMS_PER_BATCH", batch, "SOLVER.MAX_ITER", iterations]
    return arguments(RETINANET, *tiny, *FROZEN, *SGD, "OUTPUT_DIR", folder, *changes)


@pytest.fixture(scope="module")
def alone(train_here, program_here, watched, tmp_path_factory):
    """The folder of one process's run with batches of 8; that process is this one."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "build_hooks", Trainer.build_hooks)  # to have it back at the end
        program_here(watched, *options(folder))
    return folder


@pytest.fixture(scope="module")
def shared(environment, watched, tmp_path_factory):
    """That of two processes with 4 images each."""
    folder = tmp_path_factory.mktemp("shared")
    finish(environment, *options(folder), program=torchrun(2, program=watched))
    return folder


@pytest.fixture(scope="module")
def scaled(environment, watched, tmp_path_factory):
    """One process's again, with gradients that count 1 % more; not evaluated."""
    folder = tmp_path_factory.mktemp("scaled")
    changes = ["SOLVER.BASE_LR", 1.01 * RATE, "DATASETS.TEST", ()]
    finish(environment, *options(folder, *changes), program=(sys.executable, watched))
    return folder


def every_loss(folder):
    return torch.tensor(json.loads((folder / "losses.json").read_text()), dtype=torch.float64)


def loss_errors(folder, other):
    """Of each iteration, relative."""
    return (every_loss(other) / every_loss(folder) - 1).abs()


def weight_errors(folder, other):
    """Of each weight that is trained: the difference, as a part of how far training moved it."""
    first, last = torch.load(folder / "first.pth"), torch.load(folder / "model_final.pth")["model"]
    others = torch.load(other / "model_final.pth")["model"]
    assert first.keys() == last.keys() == others.keys()
    moved = {name: (last[name] - first[name]).norm() for name in last}
    errors = {name: (others[name] - last[name]).norm() for name in last}
    assert all(errors[name] == 0 for name in last if moved[name] == 0)
    return torch.stack([errors[name] / moved[name] for name in last if moved[name] > 0])


@pytest.mark.slow  # test_launching has two processes, too
def test_two_processes_do_what_one_does(alone, shared):
    """In every loss and weight, but for sums of floats in another order."""
    assert_same(torch.load(shared / "first.pth"), torch.load(alone / "first.pth"))
    assert len(every_loss(alone)) == len(every_loss(shared)) == ITERATIONS
    assert loss_errors(alone, shared).max() < LOSS_TOLERANCE
    assert weight_errors(alone, shared).max() < WEIGHT_TOLERANCE


@pytest.mark.slow
def test_so_do_several_batches_of_each(environment, watched, alone, tmp_path):
    given = options(tmp_path, "SOLVER.ACCUMULATE_STEPS", 2, batch=4)
    finish(environment, *given, program=torchrun(2, program=watched))
    assert loss_errors(alone, tmp_path).max() < LOSS_TOLERANCE
    assert weight_errors(alone, tmp_path).max() < WEIGHT_TOLERANCE


@pytest.mark.slow
def test_tolerances_notice_gradients_that_count_more(alone, scaled):
    assert loss_errors(alone, scaled)[ITERATIONS // 2 :].min() > 4 * LOSS_TOLERANCE
    assert weight_errors(alone, scaled).min() > 4 * WEIGHT_TOLERANCE


@pytest.mark.slow
def test_averaging_leaves_the_training_as_it_is(environment, shared, watched, tmp_path):
    """Each process starts from weights of its own, before they get the first one's."""
    run = options(tmp_path, "SOLVER.EMA_DECAY", 0.5, "DATASETS.TEST", ())
    finish(environment, *run, program=torchrun(2, program=watched))
    state = states(tmp_path)
    trained = state["trainer"]["hooks"]["AveragedWeights"]["model"]
    assert_same(trained, states(shared)["model"])


@pytest.mark.slow
def test_evaluation_is_shared_and_gathered(environment, alone, tmp_path):
    """The same weights give the same detections and AP in two processes."""
    weights = ["MODEL.WEIGHTS", alone / "model_final.pth"]
    run = ["--eval-only", *options(tmp_path, *weights)]
    finish(environment, *run, program=torchrun(2))
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["metrics"] == result(alone)["metrics"]

    def detections(folder):
        found = json.loads((folder / "inference" / "coco_instances_results.json").read_text())
        return sorted(found, key=lambda d: (d["image_id"], -d["score"], d["bbox"]))

    assert detections(tmp_path) == detections(alone)


def find_rank(rank, mark):
    """The process of a rank, among those whose environment has `mark`."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        if mark.encode() in environment and f"RANK={rank}".encode() in environment:
            return int(path.parent.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
def test_killed_rank_is_started_again(environment, tmp_path):
    """From the last checkpoint, by torchrun, to the same end as a run that was not broken."""
    changes = ["SOLVER.CHECKPOINT_PERIOD", 5]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    long = {"batch": 4, "iterations": 60}
    finish(environment, *options(whole, *changes, **long), program=torchrun(2))
    run = ["--resume", *options(broken, *changes, **long)]
    there = {**environment, "SOFTPOOL_TEST": str(broken)}
    process = start(there, *run, program=torchrun(2, "--max-restarts=2"))
    wait_for(process, lambda: last_checkpoint(broken) >= 14)
    os.kill(find_rank(1, f"SOFTPOOL_TEST={broken}"), signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-4000:]
    first, second = re.findall(r"Starting training from iteration (\d+)", output)
    assert int(first) == 0
    assert int(second) % 5 == 0
    assert int(second) >= 15
    assert_same(states(broken), states(whole))
    assert result(broken)["metrics"] == result(whole)["metrics"]


@pytest.mark.slow  # tests/training/test_launching.py sends one to two processes
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_signal_to_torchrun(environment, tmp_path, name):
    """It hands it on; the processes agree on the step after which they save, and end in time."""
    # It signals the whole group, in which the loaders' workers are, too.
    changes = ["SOLVER.CHECKPOINT_PERIOD", 5, "DATALOADER.NUM_WORKERS", 1]
    run = options(tmp_path, *changes, batch=4, iterations=5000)
    # By itself SIGUSR1 would end torchrun at once, and leave the processes behind.
    handled = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    process = start(environment, *run, program=torchrun(2, handled))
    wait_for(process, lambda: last_checkpoint(tmp_path) >= 4)
    before = time.monotonic()
    output = kill(process, signal.Signals[name])
    # After 30 seconds torchrun kills what has not ended.
    assert time.monotonic() - before < 30
    assert f"{name}: saving" in output
    assert f"saved after iteration {last_checkpoint(tmp_path)}" in output
    assert torch.load(tmp_path / (tmp_path / "last_checkpoint").read_text())["iteration"] > 4


@pytest.mark.slow
def test_batch_that_cannot_be_shared_out(environment, tmp_path):
    run = options(tmp_path, batch=5)
    output = finish(environment, *run, program=torchrun(2), returncode=1)
    assert "SOLVER.IMS_PER_BATCH must be a multiple of the 2 processes, got 5" in output


def lay_cable(names, ends, addresses):
    """Make two network namespaces with a cable between them; False where that is not allowed."""

    def ip(*words):
        return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0

    if shutil.which("ip") is None or not all(ip("netns", "add", name) for name in names):
        return False
    if not ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1]):
        return False
    return all(
        ip("link", "set", end, "netns", name)
        and ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
        and all(ip("-n", name, "link", "set", device, "up") for device in ("lo", end))
        for name, end, address in zip(names, ends, addresses, strict=True)
    )


@pytest.fixture
def hosts():
    """Of two hosts: the start of a command on it, its network device, its address.

    Namespaces that see each other over a cable alone, or loopback where there can be none.
    """
    names = [f"softpool{os.getpid()}{side}" for side in "ab"]
    ends = [f"sp{os.getpid() % 10**6}{side}" for side in "ab"]
    addresses = ["10.87.0.1", "10.87.0.2"]
    try:
        if lay_cable(names, ends, addresses):
            commands = [["ip", "netns", "exec", name] for name in names]
            yield list(zip(commands, ends, addresses, strict=True))
        else:
            yield [([], "lo", "127.0.0.1")] * 2
    finally:
        for name in names:
            if Path("/run/netns", name).exists():
                subprocess.run(["ip", "netns", "delete", name], check=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_two_hosts(environment, hosts, shared, tmp_path):
    """A torchrun with a process on each: the bits of two processes on one."""
    processes, endpoint = [], f"{hosts[0][2]}:{free_port()}"
    for command, device, address in hosts:
        program = [*command, sys.executable, "-m", "torch.distributed.run"]
        program += ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=hosts"]
        program += [f"--rdzv-conf=is_host={int(not processes)}"]
        program += [f"--rdzv-endpoint={endpoint}", f"--local-addr={address}"]
        there = {**environment, "GLOO_SOCKET_IFNAME": device}
        run = options(tmp_path)
        processes.append(start(there, *run, program=(*program, PROGRAM)))
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][-3000:]
    assert_same(states(tmp_path)["model"], states(shared)["model"])
    assert result(tmp_path)["metrics"] == result(shared)["metrics"]
    assert Path(tmp_path, "model_final.pth").is_file()
