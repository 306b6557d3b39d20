"""Workers of loaders when a signal comes to all processes of a job, as from Slurm and systemd."""

import os
import signal
import subprocess
import sys
import time

import pytest

# Each image takes longer than the test needs to send a signal.
SCRIPT = """
import os, sys, time
from softpool_det.classification.loaders import TrainLoader as Classifying, evaluation_loader
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
    "classifier's training": lambda: Classifying(Slow(), 1, 0, 0, 1, 2, False).epoch(0, 0),
    "classifier's evaluation": lambda: evaluation_loader(Slow(), 1, 0, 1, 2),
}
with listening():
    batches = iter(KINDS[sys.argv[1]]())
    next(batches)
    print("ready", flush=True)
    for _ in range(6):
        next(batches)
    print("got them", any_received(), flush=True)
    for _ in () if sys.argv[1] == "training" else batches:
        pass
"""


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("training", signal.SIGTERM),
        ("evaluation", signal.SIGTERM),
        pytest.param("training", signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("classifier's training", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("classifier's evaluation", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_workers_outlive_a_signal_to_all(kind, number, environment):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind],
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


SCRIPT_OF_A_WORKER = """
import time
from softpool_det.training import workers
workers.GRACE_SECONDS = 3
workers.outlive_sigterm(0)
print("ready", flush=True)
time.sleep(60)
"""
# Another process than its parent sends the signal.
BY_ANOTHER = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGTERM)"


def start_worker(environment):
    command = [sys.executable, "-c", SCRIPT_OF_A_WORKER]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_worker_ends_when_its_loader_says_so(environment):
    process = start_worker(environment)
    process.terminate()
    assert process.wait(2) == 0


def test_worker_does_not_stay_for_ever(environment):
    """Where its loader does not end it, it ends when its time of grace is over."""
    process = start_worker(environment)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", BY_ANOTHER, str(process.pid)], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert process.wait(30) == 1
