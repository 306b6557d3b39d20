"""Runs that were interrupted end as if they had not been."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest
import torch
from detectron2.engine import SimpleTrainer
from running import (
    MASK_RCNN,
    RETINANET,
    TINY,
    arguments,
    assert_same,
    last_checkpoint,
    log_of,
    result,
    states,
)
from torch import nn

from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.signals import (
    SIGNALS,
    Interrupted,
    StopOnSignal,
    listening,
    passing_on,
    shielding,
)

pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")


def options(config, folder, iterations=12, period=4):
    changes = ["SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", period]
    return arguments(config, "--resume", *TINY, *changes, "OUTPUT_DIR", folder)


@pytest.fixture(scope="module")
def unbroken(train_here, tmp_path_factory):
    """Folders of runs without an interruption, by config."""
    folders = {}

    def run(config):
        if config not in folders:
            folders[config] = tmp_path_factory.mktemp("unbroken")
            train_here(*options(config, folders[config]))
        return folders[config]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("config", [RETINANET, MASK_RCNN], ids=lambda config: config.stem[7:16])
def test_killed_midway(train_here, unbroken, tmp_path, config):
    """With workers this time, which draw nothing that a process without them does not."""
    workers = [*options(config, tmp_path), "DATALOADER.NUM_WORKERS", "1"]
    # Forked: a new one would need seconds to import what it needs.
    process = multiprocessing.get_context("fork").Process(target=train_here, args=workers)
    process.start()
    while last_checkpoint(tmp_path) < 3:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 3 <= last_checkpoint(tmp_path) < 11
    stop = last_checkpoint(tmp_path)
    train_here(*workers)
    assert f"Starting training from iteration {stop + 1}" in log_of(tmp_path)
    whole = unbroken(config)
    assert_same(states(tmp_path), states(whole))
    assert result(tmp_path)["metrics"] == result(whole)["metrics"]


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS[::2])],
    ids=lambda number: number.name,
)
def test_signal_saves_and_ends_well(train_here, unbroken, signalled, tmp_path, number):
    run = options(RETINANET, tmp_path)
    with signalled(number, lambda: last_checkpoint(tmp_path) >= 3):
        train_here(*run)
    stop = last_checkpoint(tmp_path)
    log = log_of(tmp_path)
    assert f"saved after iteration {stop}; --resume continues from there" in log
    assert "Traceback" not in log
    assert not (tmp_path / "result.json").exists()
    train_here(*run)
    assert f"Starting training from iteration {stop + 1}" in log_of(tmp_path)
    assert_same(states(tmp_path), states(unbroken(RETINANET)))


def test_signal_in_an_evaluation(train_here, signalled, tmp_path):
    """Which comes after a step, and does not wait for its end."""
    run = [*options(RETINANET, tmp_path, iterations=60, period=5000), "TEST.EVAL_PERIOD", "2"]

    def is_evaluating():
        log = tmp_path / "log.txt"
        return log.is_file() and "Start inference" in log.read_text()

    with signalled(signal.SIGTERM, is_evaluating):
        train_here(*run)
    assert "Traceback" not in log_of(tmp_path)
    stop = last_checkpoint(tmp_path)
    assert stop % 2 == 1
    assert f"saved after iteration {stop}" in log_of(tmp_path)


def test_signal_ends_one_training_only(tmp_path):
    """The next one of the process listens to none, as in a program of a user's own."""

    class Line(nn.Linear):
        def forward(self, images):
            return {"loss": super().forward(images).sum()}

    def train(*signals):
        for number in signals:
            signal.raise_signal(number)
        model = Line(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        trainer = SimpleTrainer(model, [torch.ones(1, 1)] * 3, optimizer)
        trainer.register_hooks([StopOnSignal(SafeCheckpointer(model, str(tmp_path)))])
        trainer.train(0, 3)
        return trainer.iter

    with pytest.raises(Interrupted), listening():
        train(signal.SIGTERM)
    assert last_checkpoint(tmp_path) == 0
    assert train() == 3


SLEEPER = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("passes_on", [False, True])
def test_second_sigint_ends_at_once(passes_on):
    """And the process that it was passed on to."""
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()

        def interrupted():
            with passing_on(lambda: [other.pid]) if passes_on else listening():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

        process = multiprocessing.get_context("fork").Process(target=interrupted)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGINT
        if not passes_on:
            assert other.poll() is None
            other.kill()
    assert other.returncode == -signal.SIGKILL


def test_process_that_is_shielded_gets_no_sigint():
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('here')"
    with shielding():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"here\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_signal_that_is_ignored_stays_so():
    """Such as the SIGINT of a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with those of three iterations and the last; each has its number for a weight."""
    model = nn.Linear(100, 1)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    for number in (9, 19, 29):
        nn.init.constant_(model.weight, number)
        checkpointer.save(f"model_{number:07d}", iteration=number)
    return tmp_path


def resumed(folder):
    model = nn.Linear(100, 1)
    nn.init.constant_(model.weight, -1)
    checkpointer = SafeCheckpointer(model, str(folder))
    checkpointer.resume_or_load("", resume=True)
    assert checkpointer.is_resumed == (model.weight[0, 0] >= 0)
    return int(model.weight[0, 0])


def flip(path):
    data = bytearray(path.read_bytes())
    place = data.index(torch.full((4,), 29.0).numpy().tobytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-700]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "one bit": flip,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_broken_checkpoint_is_passed_over(checkpoints, caplog, damage):
    assert resumed(checkpoints) == 29
    damage(checkpoints / "model_0000029.pth")
    assert resumed(checkpoints) == 19
    warning = next(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert warning.startswith(f"passed over: {checkpoints / 'model_0000029.pth'}: ")


def test_all_broken(checkpoints, caplog):
    for path in checkpoints.glob("*.pth"):
        DAMAGES["cut"](path)
    assert resumed(checkpoints) == -1
    assert len([r for r in caplog.records if "passed over" in r.getMessage()]) == 3


def test_killed_between_checkpoint_and_note(checkpoints):
    (checkpoints / "last_checkpoint").write_text("model_0000019.pth")
    newest = checkpoints / "model_0000029.pth"
    newest.write_bytes(newest.read_bytes())
    assert resumed(checkpoints) == 29


def test_older_run_in_the_same_folder(checkpoints):
    """Its checkpoints of later iterations are not what a newer run goes on from."""
    SafeCheckpointer(nn.Linear(100, 1), str(checkpoints)).tag_last_checkpoint("model_0000019.pth")
    assert resumed(checkpoints) == 19


def test_killed_between_checkpoint_and_note_after_the_end(checkpoints):
    """Of a run that was made longer: its old end is not its newest checkpoint."""
    (checkpoints / "model_0000019.pth").rename(checkpoints / "model_final.pth")
    (checkpoints / "last_checkpoint").write_text("model_final.pth")
    newest = checkpoints / "model_0000029.pth"
    newest.write_bytes(newest.read_bytes())
    assert resumed(checkpoints) == 29


def test_new_run_in_the_folder_of_an_old_one(checkpoints):
    """Killed before its first checkpoint, it begins anew; behind that, it goes on from it."""
    SafeCheckpointer(nn.Linear(100, 1), str(checkpoints), trainer=nn.Linear(1, 1)).resume_or_load(
        "", resume=False
    )
    assert resumed(checkpoints) == -1
    first = checkpoints / "model_0000009.pth"
    first.write_bytes(first.read_bytes())
    assert resumed(checkpoints) == 9


def test_note_that_is_no_text(checkpoints):
    (checkpoints / "last_checkpoint").write_bytes(b"\xff\xfe")
    assert resumed(checkpoints) == 29


def test_nothing_partial_is_left(checkpoints):
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "last_checkpoint",
        *(f"model_{number:07d}.pth" for number in (9, 19, 29)),
    ]
