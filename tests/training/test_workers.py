"""Workers of loaders when a signal comes to all processes of a job, as from Slurm and systemd."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from softpool_det.training import workers

# Each image takes longer than the test needs to send a signal.
SCRIPT = """
import os, sys, time
from softpool_det.classification.datasets import loader
from softpool_det.training.train_loader import TrainLoader
from softpool_det.training.workers import with_lasting_workers
from softpool_det.training.signals import any_received, listening
from torch.utils.data import DataLoader

class Slow:
    targets, classes = [0] * 8, ["one"]
    def __len__(self):
        return 8
    def __getitem__(self, index):
        time.sleep(0.3)
        return 0, index
    def __call__(self, record):
        return self[0]

KINDS = {
    "training": lambda: TrainLoader([{}] * 8, mapper=Slow(), total_batch_size=1, num_workers=2),
    "evaluation": lambda: with_lasting_workers(DataLoader(Slow(), num_workers=2)),
    "classifier's": lambda: loader(Slow(), [[(0, i)] for i in range(8)], 0, 2),
}
with listening():
    loaders = {kind: iter(KINDS[kind]()) for kind in sys.argv[1:]}
    for batches in loaders.values():
        next(batches)
    print("ready", flush=True)
    for _ in range(6):
        for batches in loaders.values():
            next(batches)
    print("got them", any_received(), flush=True)
    for kind, batches in loaders.items():
        for _ in () if kind == "training" else batches:
            pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "number"),
    [
        (["training", "evaluation"], signal.SIGTERM),
        (["training", "evaluation"], signal.SIGINT),
        (["training"], signal.SIGUSR1),
        (["classifier's"], signal.SIGTERM),
    ],
    ids=["SIGTERM", "SIGINT", "SIGUSR1", "classifier's"],
)
def test_workers_outlive_a_signal_to_all(kinds, number, environment):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *kinds],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, number)
    start = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "got them True\n"), errors
    # They have ended by themselves, not after their time of grace.
    assert time.monotonic() - start < 25


# Another process than its parent sends the signal.
BY_ANOTHER = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGTERM)"


def work(ready):
    workers.GRACE_SECONDS = 3
    workers.outlive_signals(0)
    ready.set()
    time.sleep(60)


@pytest.fixture
def worker():
    """A process that this one has forked, as a loader does."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=work, args=(ready,))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_worker_ends_when_its_loader_says_so(worker):
    worker.terminate()
    worker.join(2)
    assert worker.exitcode == 0


def test_worker_does_not_stay_for_ever(worker):
    """Where its loader does not end it, it ends when its time of grace is over."""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", BY_ANOTHER, str(worker.pid)], check=True)
    worker.join(1)
    assert worker.exitcode is None
    worker.join(30)
    assert worker.exitcode == 1
