"""tools/train_net.py as torchrun's processes, on one machine and between two namespaces."""

import json
import os
import re
import signal
import subprocess
import sys
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
    losses,
    result,
    start,
    states,
    wait_for,
)

ITERATIONS = 20
# A batch has batch statistics; of a part of it they are others.
FROZEN = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "", "MODEL.RETINANET.NORM", ""]
# AdamW's first steps have the size of the rate, whatever that of a gradient: where the gradient is
# nothing but rounding, so is the direction.
FROZEN += ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 0.001]


def torchrun(processes, *options):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return (*torchrun, f"--nproc-per-node={processes}", *options, PROGRAM)


def options(folder, *changes, batch=8, iterations=ITERATIONS):
    tiny = [*TINY, "SOLVER.IMS_PER_BATCH", batch, "SOLVER.MAX_ITER", iterations]
    return arguments(RETINANET, *tiny, *FROZEN, "OUTPUT_DIR", folder, *changes)


@pytest.fixture(scope="module")
def alone(environment, tmp_path_factory):
    """The folder of one process's run with batches of 8."""
    folder = tmp_path_factory.mktemp("alone")
    finish(environment, *options(folder))
    return folder


@pytest.fixture(scope="module")
def shared(environment, tmp_path_factory):
    """That of two processes with 4 images each."""
    folder = tmp_path_factory.mktemp("shared")
    finish(environment, *options(folder), program=torchrun(2))
    return folder


def test_two_processes_do_what_one_does(alone, shared):
    """Losses to 1e-4 of their value, weights to 1e-4: sums of floats in another order."""
    left, right = (torch.load(folder / "model_final.pth")["model"] for folder in (alone, shared))
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-4, atol=1e-4, msg=name)
    expected = losses(alone)
    assert expected
    assert losses(shared) == pytest.approx(expected, rel=1e-4)


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


def test_signal_to_torchrun(environment, tmp_path):
    """It hands SIGTERM on; the processes agree on the step after which they save and end."""
    changes = ["SOLVER.CHECKPOINT_PERIOD", 5]
    run = options(tmp_path, *changes, batch=4, iterations=5000)
    process = start(environment, *run, program=torchrun(2))
    wait_for(process, lambda: last_checkpoint(tmp_path) >= 4)
    output = kill(process, signal.SIGTERM)
    assert f"saved after iteration {last_checkpoint(tmp_path)}" in output
    assert torch.load(tmp_path / (tmp_path / "last_checkpoint").read_text())["iteration"] > 4


def test_batch_that_cannot_be_shared_out(environment, tmp_path):
    run = options(tmp_path, batch=5)
    output = finish(environment, *run, program=torchrun(2), returncode=1)
    assert "SOLVER.IMS_PER_BATCH must be a multiple of the 2 processes, got 5" in output


@pytest.fixture
def hosts():
    """Two network namespaces with a cable between them: names and addresses."""
    names = [f"softpool{os.getpid()}{side}" for side in "ab"]
    addresses = ["10.87.0.1", "10.87.0.2"]

    def ip(*words):
        return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0

    if os.geteuid() != 0 or not ip("netns", "add", names[0]):
        pytest.skip("network namespaces need root and iproute2")
    try:
        assert ip("netns", "add", names[1])
        ends = [f"sp{os.getpid() % 10**6}{side}" for side in "ab"]
        assert ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, addresses, strict=True):
            assert ip("link", "set", end, "netns", name)
            assert ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            for device in ("lo", end):
                assert ip("-n", name, "link", "set", device, "up")
        yield list(zip(names, ends, addresses, strict=True))
    finally:
        for name in names:
            ip("netns", "delete", name)


def test_two_hosts(environment, hosts, shared, tmp_path):
    """A process on each, which see each other over the cable alone: two processes' bits."""
    processes = []
    for name, device, address in hosts:
        program = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"]
        program += ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=hosts"]
        program += [f"--rdzv-conf=is_host={int(not processes)}"]
        program += [f"--rdzv-endpoint={hosts[0][2]}:29400", f"--local-addr={address}"]
        there = {**environment, "GLOO_SOCKET_IFNAME": device}
        run = options(tmp_path)
        processes.append(start(there, *run, program=(*program, PROGRAM)))
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][-3000:]
    assert_same(states(tmp_path)["model"], states(shared)["model"])
    assert result(tmp_path)["metrics"] == result(shared)["metrics"]
    assert Path(tmp_path, "model_final.pth").is_file()
