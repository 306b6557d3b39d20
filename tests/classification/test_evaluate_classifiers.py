"""tools/evaluate_classifiers.py as a user runs it."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from PIL import Image
from safetensors.torch import load_file

from softpool_det.classification.build import build_model
from softpool_det.classification.config import load_config
from softpool_det.classification.predictions import Predictions
from softpool_det.classification.weights import metadata
from softpool_det.weights import read_metadata, save_weights

ROOT = Path(__file__).parents[2]
STOCK, SOFT = (
    str(ROOT / "configs/classification" / name)
    for name in ("digits_R_18.yaml", "digits_softpool_R_18.yaml")
)
PROGRAM = str(ROOT / "tools" / "evaluate_classifiers.py")


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """The program without the seconds of a new process; what it prints."""

    def evaluate_with(*arguments):
        monkeypatch.setattr(sys, "argv", [PROGRAM, *map(str, arguments)])
        runpy.run_path(PROGRAM, run_name="__main__")
        return capsys.readouterr().out

    return evaluate_with


def write_weights(path, tiny):
    """A stock ResNet-18 with random weights and batch statistics that matter."""
    cfg = load_config(STOCK, tiny)
    model = build_model(cfg, 3)
    torch.manual_seed(5)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.3, 2)
    torch.nn.init.normal_(model.linear.weight)
    save_weights(path, model.state_dict(), metadata(cfg, 3))


def stock_predictions(weights, folder):
    """Detectron2's own ResNet, its own stem, and the pixels normalised by hand."""
    model = ResNet(BasicStem(norm="BN"), ResNet.make_default_stages(18, norm="BN"), num_classes=3)
    model.load_state_dict(load_file(weights))
    found = []
    for path in sorted(folder.glob("*/*.png")):
        image = Image.open(path)
        scale = 32 / min(image.size)
        # Shorter side 32; torchvision truncates the longer one.
        image = image.resize([max(32, int(side * scale)) for side in image.size], Image.BILINEAR)
        left, top = (round((side - 32) / 2) for side in image.size)
        pixels = np.asarray(image, np.float64)[top : top + 32, left : left + 32]
        pixels = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None]
        with torch.inference_mode():
            found.append(model.eval()(batch)["linear"].argmax().item())
    return found


def test_swap(evaluate, tiny, pictures, one_thread, tmp_path):
    """Table 2's pre-trained setting in one command, both rows."""
    weights = tmp_path / "stock.safetensors"
    write_weights(weights, tiny)
    command = ["swap", "--weights", weights, "--output", tmp_path / "swap"]
    output = evaluate(*command, "--trained", STOCK, "--swapped", SOFT, *tiny)
    rows = [line for line in output.splitlines() if line.startswith("| ")][1:]
    assert rows[0].startswith("| as trained: MaxPool2d 3x3 ")
    assert rows[1].startswith("| swapped: SoftPool2d 2x2 ")
    found = json.loads((tmp_path / "swap" / "swap.json").read_text())
    assert found["weights"] == str(weights)
    trained, swapped = (
        Predictions.load(tmp_path / "swap" / f"{name}.npz") for name in ("as_trained", "swapped")
    )
    assert trained.predicted.tolist() == stock_predictions(weights, pictures / "val")
    assert not np.array_equal(trained.predicted, swapped.predicted)
    (test,) = found["mcnemar"]["swapped: SoftPool2d 2x2"]
    disagreements = np.sum(trained.correct != swapped.correct)
    assert test["only_baseline"] + test["only_candidate"] == disagreements


def test_weights_that_are_not_finite(evaluate, tiny, tmp_path):
    weights = tmp_path / "stock.safetensors"
    write_weights(weights, tiny)
    state_dict, told = load_file(weights), read_metadata(weights)
    state_dict["linear.bias"][1] = float("nan")
    save_weights(weights, state_dict, told)
    command = ["swap", "--weights", weights, "--output", tmp_path / "swap"]
    match = (
        r"^error: \S+stock\.safetensors: linear\.bias has 1 NaN among its 3 values; take an earl"
    )
    with pytest.raises(SystemExit, match=match):
        evaluate(*command, "--trained", STOCK, "--swapped", SOFT, *tiny)


def test_swap_needs_the_weights_own_config_first(evaluate, tiny, tmp_path):
    weights = tmp_path / "stock.safetensors"
    write_weights(weights, tiny)
    command = ["swap", "--weights", weights, "--output", tmp_path / "swap"]
    with pytest.raises(SystemExit, match="trained with MaxPool2d 3x3"):
        evaluate(*command, "--trained", SOFT, "--swapped", STOCK, *tiny)
    other = tmp_path / "other.yaml"
    other.write_text(f"_BASE_: {SOFT}\nINPUT:\n  MIN_SIZE_TEST: 40\n")
    tiny = [part for part in tiny if part != "INPUT.MIN_SIZE_TEST"]
    del tiny[tiny.index("INPUT.CROP_SIZE_TEST") - 1]
    with pytest.raises(SystemExit, match=r"differ in MODEL\.STEM_POOL alone(.|\n)*MIN_SIZE_TEST"):
        evaluate(*command, "--trained", STOCK, "--swapped", other, *tiny)
    assert not (tmp_path / "swap").exists()


def write_predictions(path, correct):
    labels = np.arange(len(correct)) % 4
    predicted = np.where(correct, labels, labels + 1)
    Predictions(labels, predicted, np.ones(len(correct), bool)).save(path)
    return path


def test_compare(evaluate, tmp_path):
    random = np.random.RandomState(0)
    files = {
        arm: [
            write_predictions(tmp_path / f"{arm}{seed}.npz", random.rand(200) < rate)
            for seed in (1, 2)
        ]
        for arm, rate in (("max", 0.7), ("SoftPool", 0.8))
    }
    output = evaluate(
        *("compare", "--arm", "max 3x3", *files["max"], "--arm", "SoftPool", *files["SoftPool"]),
        *("--json", tmp_path / "comparison.json"),
    )
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["baseline"] == "max 3x3"
    for seed, (test, baseline, candidate) in enumerate(
        zip(found["mcnemar"]["SoftPool"], files["max"], files["SoftPool"], strict=True)
    ):
        first, second = Predictions.load(baseline).correct, Predictions.load(candidate).correct
        b, c = np.sum(first & ~second), np.sum(second & ~first)
        assert test["statistic"] == pytest.approx((abs(b - c) - 1) ** 2 / (b + c))
        assert f"{test['statistic']:.2f} ({test['p_value']:.2g})" in output
        assert found["arms"]["max 3x3"]["top1"][seed] == pytest.approx(100 * first.mean())
    assert f"{found['arms']['SoftPool']['top1_mean']:.2f}" in output
    assert "one test a seed" in output


def test_arms_that_do_not_go_together(evaluate, tmp_path):
    first = write_predictions(tmp_path / "first.npz", np.ones(5, bool))
    second = write_predictions(tmp_path / "second.npz", np.ones(6, bool))
    for arms, message in (
        ((["a", first],), "two or more arms"),
        ((["a", first, first], ["b", first]), r"as many files each are compared.*'a': 2, 'b': 1"),
        ((["a", first], ["b", second]), "same images"),
        ((["a", first], ["b", tmp_path / "absent.npz"]), r"absent\.npz"),
    ):
        with pytest.raises(SystemExit, match=message):
            evaluate("compare", *(part for arm in arms for part in ("--arm", *arm)))
