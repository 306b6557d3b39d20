"""Trainings of classifiers that are interrupted, or find their checkpoint damaged."""

import importlib
import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from softpool_det.classification.checkpoint import load_checkpoint, save_checkpoint
from softpool_det.classification.training import Training
from softpool_det.training.signals import Interrupted

CONFIG = "configs/classification/digits_softpool_R_18.yaml"


@pytest.fixture
def run_tiny(run_here, tiny, one_thread, tmp_path, request):
    """Train in a folder, by name; returns the folder."""
    config = request.config.rootpath / CONFIG

    def run(name, *overrides, **options):
        folder = tmp_path / name
        run_here(config, *tiny, "OUTPUT_DIR", folder, *overrides, **options)
        return folder

    return run


@pytest.fixture(scope="module")
def whole(run_here, tiny, tmp_path_factory, request):
    """The folder of a run that nothing interrupted."""
    folder, before = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)
    run_here(request.config.rootpath / CONFIG, *tiny, "OUTPUT_DIR", folder)
    torch.set_num_threads(before)
    return folder


def assert_same(left, right):
    expected = load_file(right / "model_final.safetensors")
    for name, value in load_file(left / "model_final.safetensors").items():
        assert torch.equal(value, expected[name]), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (left, right)]
    assert results[0]["history"] == results[1]["history"]
    assert results[0]["metrics"] == results[1]["metrics"]


def interrupt_steps(monkeypatch, wanted, number):
    """A signal in the step that is the `wanted`-th."""
    step = Training._step

    def interrupted(training, *batch):
        loss = step(training, *batch)
        if training.progress.iteration + 1 == wanted:
            signal.raise_signal(number)
        return loss

    monkeypatch.setattr(Training, "_step", interrupted)


def interrupt_evaluation(monkeypatch):
    """A signal at the start of an evaluation."""
    # The package gives the function of that name out as its own.
    program = importlib.import_module("softpool_det.classification.run")
    predict = program.predict

    def interrupted(*args):
        signal.raise_signal(signal.SIGTERM)
        return predict(*args)

    monkeypatch.setattr(program, "predict", interrupted)


@pytest.mark.parametrize(
    ("iteration", "number"),
    [
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
        (3, signal.SIGUSR1),
        pytest.param(6, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_and_ends_with_0(iteration, number, run_tiny, whole, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        interrupt_steps(patched, iteration, number)
        with pytest.raises(Interrupted) as end:
            run_tiny("broken")
    assert end.value.code == 0
    saved = torch.load(tmp_path / "broken" / "checkpoint.pth")["progress"]
    assert saved["iteration"] == iteration
    assert not (tmp_path / "broken" / "result.json").exists()
    assert_same(run_tiny("broken", resume=True), whole)


def test_signal_in_an_evaluation(run_tiny, whole, monkeypatch, tmp_path):
    """It is made up for when the run goes on."""
    with monkeypatch.context() as patched:
        interrupt_evaluation(patched)
        with pytest.raises(Interrupted):
            run_tiny("broken")
    assert torch.load(tmp_path / "broken" / "checkpoint.pth")["progress"]["iteration"] == 3
    assert_same(run_tiny("broken", resume=True), whole)


def unfinished(whole, folder):
    """A copy as a kill after the last checkpoint leaves it."""
    # Every later run in this process has logged into the log there, too.
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("log.txt"))
    (folder / "result.json").unlink()
    (folder / "model_final.safetensors").unlink()
    return folder / "checkpoint.pth"


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="bit"),
        pytest.param(lambda content: content[:-100], id="cut off", marks=pytest.mark.slow),
        pytest.param(lambda _: b"", id="empty", marks=pytest.mark.slow),
    ],
)
def test_damaged_checkpoint_is_passed_over(damage, run_tiny, whole, tmp_path):
    path = unfinished(whole, tmp_path / "broken")
    path.write_bytes(damage(path.read_bytes()))
    broken = run_tiny("broken", resume=True)
    log = (broken / "log.txt").read_text()
    assert f"passed over: {path}: " in log
    assert "going on from iteration 4" in log
    assert_same(broken, whole)


def test_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path):
    save_checkpoint(tmp_path, {"number": 1})
    save_checkpoint(tmp_path, {"number": 2})
    newest = tmp_path / "checkpoint.pth"
    newest.write_bytes(flip_a_bit(newest.read_bytes()))
    assert load_checkpoint(tmp_path, "cpu") == {"number": 1}
    save_checkpoint(tmp_path, {"number": 3})
    newest.unlink()
    assert load_checkpoint(tmp_path, "cpu") == {"number": 1}


@pytest.mark.slow
def test_checkpoint_that_is_not_finite_is_refused(tmp_path):
    save_checkpoint(tmp_path, {"model": {"bn1.running_var": torch.tensor([1.0, -1.0])}})
    with pytest.raises(ValueError, match=r"model\.bn1\.running_var has 1 negative among its 2 var"):
        load_checkpoint(tmp_path, "cpu")


def test_begins_anew_where_all_are_damaged(run_tiny, whole, tmp_path):
    path = unfinished(whole, tmp_path / "broken")
    for each in (path, path.with_name("checkpoint_previous.pth")):
        each.write_bytes(bytes(1000))
    broken = run_tiny("broken", resume=True)
    assert "going on" not in (broken / "log.txt").read_text()
    assert_same(broken, whole)


def test_new_run_does_not_take_the_previous_checkpoint(run_tiny, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "again")
    assert (folder / "checkpoint_previous.pth").is_file()
    with pytest.raises(FloatingPointError, match="the loss is nan by iteration 2"):
        run_tiny("again", "SOLVER.BASE_LR", 1e30)
    assert not list(folder.glob("checkpoint*"))
