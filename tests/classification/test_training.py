"""The training loop in this process, on a ResNet-18 and real files."""

import math

import pytest
import torch

from softpool_det.classification.averaging import MovingAverage
from softpool_det.classification.build import build_test_dataset, build_test_loader
from softpool_det.classification.config import load_config
from softpool_det.classification.evaluation import predict
from softpool_det.classification.run import start

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = "configs/classification/digits_softpool_R_18.yaml"


@pytest.fixture(scope="module")
def begin(tiny, request):
    """A run of `tiny` before its first iteration, with further overrides."""

    def begin_with(*overrides):
        cfg = load_config(str(request.config.rootpath / CONFIG), [*tiny, *overrides])
        return start(cfg, build_test_dataset(cfg))

    return begin_with


@pytest.fixture(scope="module")
def whole(begin):
    """An uninterrupted run."""
    training = begin()
    training.run(lambda _: None)
    return training


class StoppedError(Exception):
    pass


def run_to(training, iteration):
    """Stop behind an iteration, as a kill would."""

    def stop(_):
        if training.progress.iteration == iteration:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.run(stop)


# tests/classification/test_survival.py resumes at the end of an epoch.
@pytest.mark.parametrize("iteration", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_resumes_bit_for_bit(begin, whole, iteration, tmp_path):
    """In the middle of an epoch and at its end, with all that a recipe can have."""
    interrupted = begin()
    run_to(interrupted, iteration)
    torch.save(interrupted.state_dict(), tmp_path / "checkpoint.pth")
    # Of another seed's start and generator nothing may be left.
    torch.manual_seed(99)
    resumed = begin()
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pth", weights_only=True))
    resumed.run(lambda _: None)
    assert resumed.progress.iteration == whole.progress.iteration == 6
    for mine, other in ((whole.model, resumed.model), (whole.result, resumed.result)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(whole.model.linear.weight, whole.result.linear.weight)
    momenta = (part.optimizer.state_dict()["state"] for part in (whole, resumed))
    for before, after in zip(*(state.values() for state in momenta), strict=True):
        assert torch.equal(before["momentum_buffer"], after["momentum_buffer"])


def test_average_is_the_recurrence():
    model = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.75, period=2, start=3)
    expected = None
    for iteration, value in enumerate([5.0, 1.0, -2.0, 4.0, 8.0, -6.0, 3.0, 7.0], start=1):
        torch.nn.init.constant_(model.weight, value)
        average.update(iteration)
        # Even iterations count; up to the third the average is a copy.
        if iteration == 2 or iteration == 4:
            expected = value if iteration == 2 else 0.75 * expected + 0.25 * value
        elif iteration % 2 == 0:
            expected = 0.75 * expected + 0.25 * value
        if iteration > 1:
            assert average.module.weight.item() == pytest.approx(expected)


def distance(first, second):
    """Between two classifiers' last layers."""
    return (first.linear.weight - second.linear.weight).abs().max().item()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_is_near_float32(begin, dtype):
    overrides = ["SOLVER.MAX_EPOCHS", "1", "INPUT.MIXUP_ALPHA", "0.0"]
    plain = begin(*overrides)
    mixed = begin(*overrides, "SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", dtype)
    assert mixed.scaler.is_enabled() == (dtype == "float16")
    # From its default scale it would have to find a fitting one first, and skip these steps.
    mixed.scaler.load_state_dict({**mixed.scaler.state_dict(), "scale": 64.0})
    for training in (plain, mixed):
        run_to(training, 1)
    assert mixed.model.linear.weight.dtype == torch.float32
    difference = distance(plain.model, mixed.model)
    learned = distance(plain.model, begin(*overrides).model)
    assert 0 < difference < 0.2 * learned


def test_unknown_precision(begin, tiny):
    with pytest.raises(ValueError, match=r"SOLVER\.AMP\.DTYPE must be one of .*'half'"):
        begin("SOLVER.AMP.DTYPE", "half")


def test_stops_at_a_loss_that_is_no_number(begin):
    training = begin()
    torch.nn.init.constant_(training.model.linear.bias, math.nan)
    with pytest.raises(FloatingPointError, match=r"by iteration 2: lower SOLVER\.BASE_LR"):
        training.run(lambda _: None)


def test_throughput(begin):
    training = begin()
    assert math.isnan(training.images_per_second)
    run_to(training, 2)
    seconds = training.progress.seconds
    assert training.images_per_second == pytest.approx(2 * 10 / seconds)


def test_is_a_plain_loop(begin):
    """The same batches through torch's own optimizer, with the rates worked out by hand."""
    overrides = ["INPUT.MIXUP_ALPHA", "0.0", "INPUT.CUTMIX_ALPHA", "0.0"]
    overrides += ["SOLVER.WARMUP_EPOCHS", "0.0", "SOLVER.WEIGHT_DECAY_NORM", "0.0005"]
    # Statistics of ten numbers would enlarge what is rounded differently.
    overrides += ["MODEL.RESNETS.NORM", "GN"]
    training, plain = begin(*overrides), begin(*overrides)
    run_to(training, 3)
    model = plain.model.train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005, nesterov=True
    )
    for i, (images, labels) in enumerate(plain.loader.epoch(0, 0)):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * i / 6)) / 2
        log_probabilities = torch.log_softmax(model(images)["linear"], dim=1)
        # Smoothing by 0.1 gives each of the three classes a thirtieth.
        targets = 0.9 * torch.nn.functional.one_hot(labels, 3) + 0.1 / 3
        loss = -(targets * log_probabilities).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        found = training.model.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_learns_digits(small_datasets, monkeypatch, request):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_datasets))
    cfg = load_config(
        str(request.config.rootpath / CONFIG),
        ["SOLVER.MAX_EPOCHS", "1", "SOLVER.WARMUP_EPOCHS", "0.2", "MODEL.DEVICE", "cpu"],
    )
    test_set = build_test_dataset(cfg)
    training = start(cfg, test_set)
    training.run(lambda _: None)
    found = predict(training.result, build_test_loader(cfg, test_set), test_set.targets, "cpu")
    assert found.accuracies()["top1"] > 80
