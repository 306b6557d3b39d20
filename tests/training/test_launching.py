"""tools/train_net.py --num-gpus and --num-machines, Detectron2's own way to several processes."""

import signal
import socket
import sys
import time

import pytest
import torch
from running import (
    PROGRAM,
    RETINANET,
    TINY,
    arguments,
    finish,
    kill,
    last_checkpoint,
    losses,
    result,
    start,
    wait_for,
)


def options(folder, *changes, processes=2, batch=4, iterations=5000):
    tiny = [*TINY, "SOLVER.IMS_PER_BATCH", batch, "SOLVER.MAX_ITER", iterations]
    run = arguments(RETINANET, *tiny, "OUTPUT_DIR", folder, *changes)
    return ["--num-gpus", processes, *run]


# Both say that they are there, and which signal they got; as little as that needs.
STUB = """
import argparse, pathlib, signal, sys, time
from detectron2.utils import comm
from softpool_det.training.launching import launch_processes

def main(args):
    got = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: got.append(number))
    note = pathlib.Path(args.folder, str(comm.get_rank()))
    note.touch()
    while not got:
        time.sleep(0.01)
    note.write_text(signal.Signals(got[0]).name)
    sys.exit(args.status)

if __name__ == "__main__":
    places = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    places |= {"folder": sys.argv[1], "status": int(sys.argv[2])}
    launch_processes(main, argparse.Namespace(**places))
"""


@pytest.mark.parametrize(
    ("number", "got", "status"),
    [
        # A terminal's SIGINT would reach them twice, and the second one ends a process at once.
        (signal.SIGINT, "SIGTERM", 0),
        pytest.param(signal.SIGTERM, "SIGTERM", 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, "SIGUSR1", 3, marks=pytest.mark.slow),
    ],
    ids=["SIGINT", "SIGTERM", "SIGUSR1"],
)
def test_signal_reaches_the_processes(environment, tmp_path, number, got, status):
    """And the program ends as they do, with their status."""
    program = tmp_path / "stub.py"
    program.write_text(STUB)
    process = start(environment, tmp_path, status, program=(sys.executable, program))
    notes = [tmp_path / str(rank) for rank in range(2)]
    wait_for(process, lambda: all(note.is_file() for note in notes))
    output = kill(process, number)
    assert process.returncode == status, output
    assert [note.read_text() for note in notes] == [got] * 2
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_signal_saves_a_training(environment, tmp_path, number):
    """And both save, and the program ends well, as one process does."""
    run = options(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 5)
    process = start(environment, *run)
    wait_for(process, lambda: last_checkpoint(tmp_path) >= 4)
    clock = time.monotonic()
    output = kill(process, number)
    assert time.monotonic() - clock < 30
    assert process.returncode == 0, output
    stop = last_checkpoint(tmp_path)
    assert f"saved after iteration {stop}; --resume continues from there" in output
    assert "Traceback" not in output
    assert torch.load(tmp_path / f"model_{stop:07d}.pth")["iteration"] == stop


@pytest.mark.slow
def test_error_is_a_line(environment, tmp_path):
    output = finish(environment, *options(tmp_path, batch=3), returncode=1)
    assert "error: " in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_two_machines(environment, tmp_path):
    """A process each, which find each other at --dist-url."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    hosts = []
    for rank in range(2):
        run = options(tmp_path, "SOLVER.MAX_ITER", 20, processes=1)
        where = ["--num-machines", 2, "--machine-rank", rank]
        where += ["--dist-url", f"tcp://127.0.0.1:{port}"]
        hosts.append(start(environment, *where, *run, program=(sys.executable, PROGRAM)))
    outputs = [host.communicate()[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    assert losses(tmp_path)
    assert "bbox" in result(tmp_path)["metrics"]
