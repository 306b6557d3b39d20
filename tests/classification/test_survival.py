"""Trainings of classifiers that are interrupted, or find their checkpoint damaged."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from softpool_det.classification.module import Classifier
from softpool_det.classification.run import WholeFiles, newest_checkpoint
from softpool_det.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_same(left, right):
    expected = load_file(right / "model_final.safetensors")
    for name, value in load_file(left / "model_final.safetensors").items():
        assert torch.equal(value, expected[name]), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (left, right)]
    for key in ("history", "metrics", "steps"):
        assert results[0][key] == results[1][key]


def interrupt(monkeypatch, method, wanted, number):
    """A signal in the `wanted`-th call of a method of the module's."""
    original, calls = getattr(Classifier, method), []

    def interrupted(module, *args):
        calls.append(args)
        if len(calls) == wanted:
            signal.raise_signal(number)
        return original(module, *args)

    monkeypatch.setattr(Classifier, method, interrupted)


@pytest.mark.parametrize(
    ("method", "call", "number", "step"),
    [
        # In the middle of an epoch, and in its last step, and in an evaluation.
        ("training_step", 2, signal.SIGINT, 2),
        pytest.param("training_step", 5, signal.SIGUSR1, 5, marks=pytest.mark.slow),
        ("training_step", 6, signal.SIGTERM, 6),
        pytest.param("validation_step", 2, signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param("training_step", 9, signal.SIGTERM, 9, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_and_ends_with_0(
    method, call, number, step, run_here, trained, monkeypatch, tmp_path
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        interrupt(patched, method, call, number)
        with pytest.raises(Interrupted) as end:
            run_here(tmp_path)
    assert end.value.code == 0
    assert signal.getsignal(number) == before
    assert torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)["global_step"] == step
    assert not (tmp_path / "result.json").exists()
    # Workers begin before the loop does: with the right epoch's order.
    run_here(tmp_path, "num_workers=2", resume=True)
    assert_same(tmp_path, trained)


def test_signal_in_an_evaluation_alone(run_here, monkeypatch, tmp_path):
    """A table's next run is not to begin."""
    interrupt(monkeypatch, "validation_step", 1, signal.SIGINT)
    with pytest.raises(Interrupted):
        run_here(tmp_path, "epochs=0")
    assert (tmp_path / "result.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_interrupted_without_an_average(accumulated, run_here, monkeypatch, tmp_path):
    # A checkpoint has no gradients: none may be written while they accumulate.
    several = f"trainer.accumulate_grad_batches={accumulated}"
    plain = ("callbacks=[]", "epochs=2", "warmup_epochs=0", several)
    run_here(tmp_path / "whole", *plain)
    with monkeypatch.context() as patched:
        interrupt(patched, "training_step", 4, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_here(tmp_path / "two", *plain)
    run_here(tmp_path / "two", *plain, resume=True)
    assert_same(tmp_path / "two", tmp_path / "whole")


def unfinished(trained, folder):
    """A copy as a kill after the last checkpoint leaves it."""
    shutil.copytree(trained, folder)
    (folder / "result.json").unlink()
    (folder / "model_final.safetensors").unlink()
    return folder / "checkpoint.ckpt"


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_killed_behind_the_last_checkpoint(run_here, trained, tmp_path):
    unfinished(trained, tmp_path / "broken")
    run_here(tmp_path / "broken", resume=True)
    assert_same(tmp_path / "broken", trained)


def test_damaged_checkpoint_is_passed_over(run_here, trained, tmp_path, caplog):
    path = unfinished(trained, tmp_path / "broken")
    flip_a_bit(path)
    run_here(path.parent, resume=True)
    assert f"passed over: {path}: " in caplog.text
    assert_same(path.parent, trained)


def test_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path):
    path, files = tmp_path / "checkpoint.ckpt", WholeFiles()
    for number in (1, 2):
        files.save_checkpoint({"number": number}, path)
    flip_a_bit(path)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint_previous.ckpt"
    files.save_checkpoint({"number": 3}, path)
    path.unlink()
    assert files.load_checkpoint(newest_checkpoint(tmp_path)) == {"number": 1}


def test_checkpoints_of_callbacks_are_not_kept_for_damage(tmp_path):
    for number in (1, 2):
        WholeFiles().save_checkpoint({"number": number}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoint_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "checkpoint.ckpt"
    state = {"state_dict": {"bn1.running_var": torch.tensor([1.0, -1.0])}}
    WholeFiles().save_checkpoint(state, path)
    with pytest.raises(ValueError, match=r"bn1\.running_var has 1 negative among its 2 var"):
        WholeFiles().load_checkpoint(path)


def test_new_run_does_not_take_the_previous_checkpoint(run_here, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "again")
    assert (folder / "checkpoint_previous.ckpt").is_file()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for mistyped in ("network=torchvision/resnet19", "optimizer.name=SDG", "trainer.precison=16"):
        with pytest.raises(ValueError, match=r"resnet19|SDG|precison"):
            run_here(folder, mistyped)
    assert {path: path.read_bytes() for path in before} == before
    # Also where no step is a multiple of the period.
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) by step 3"):
        run_here(folder, "optimizer.lr=1e30", "trainer.log_every_n_steps=50")
    left = {path.name for path in folder.iterdir() if path.is_file()}
    assert left == {"config.yaml"}
