"""softpool-tables as a user runs it, on a folder of real PNG files."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from softpool_det.classification import paper
from softpool_det.classification.paper import arms_of
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.table_report import Cell

PROGRAM = str(Path(__file__).parents[2] / "tools" / "tables.py")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "tables"


@pytest.fixture
def tables(tiny, output, monkeypatch, capsys):
    """The program on `tiny`'s pictures; what it prints."""

    def run(*arguments):
        fixed = ["--data", tiny.parent, "--recipe", tiny, "--output", output]
        monkeypatch.setattr(sys, "argv", [PROGRAM, *map(str, [*fixed, *arguments])])
        runpy.run_path(PROGRAM, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_tables_share_their_runs(tables, tiny, output, capsys):
    command = ("--networks", "resnet18", "--epochs", 1, "--set", "callbacks=[]")
    assert "of another config:\n- resnet18, Original, seed 1\n" in tables(2, *command, "--report")
    text = tables(2, *command)
    assert "| resnet18 | paper | 11.7 " in text
    assert "71.27 (+1.51)" in text
    folder = output / tiny.parent.name
    assert "Not finished" not in text
    runs = folder / "torchvision" / "resnet18"
    folders = {"original": "Original/seed_1", "scratch": "SoftPool/seed_1"}
    folders["swapped"] = "Original/seed_1/swapped"
    found = {
        name: Predictions.load(runs / folder / "predictions.safetensors")
        for name, folder in folders.items()
    }
    row = json.loads((folder / "table_2.json").read_text())["rows"]["resnet18"]
    for name, predictions in found.items():
        assert row[f"{name}, top-1"]["ours"]["1"] == predictions.accuracies()["top1"]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}
    assert len(before) == 3
    # The swapped one is of another config, too, where Original's is: it has those weights.
    text = tables(2, *command, "--epochs", 2, "--report")
    for arm in ("Original", "swapped", "SoftPool"):
        assert f"\n- resnet18, {arm}, seed 1\n" in text
    tables(4, *command)
    row = json.loads((folder / "table_4.json").read_text())["rows"]["resnet18, SoftPool"]
    test = mcnemar_test(found["original"], found["scratch"])
    assert row["exact p"]["ours"]["1"] == test["exact_p_value"]
    assert row["chi-squared"]["paper"] == 90.08
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")} == before
    assert (folder / "table_4.png").read_bytes().startswith(b"\x89PNG")
    other = (5, *command[:3], 2, *command[4:], "--poolings", "soft")
    assert "of another config:\n- resnet18, Original, seed 1\n- resnet18, So" in tables(
        *other, "--report"
    )
    with pytest.raises(SystemExit, match="1"):
        tables(*other)
    message = r"1 failed \(resnet18, SoftPool, seed 1\):\n(.|\n)*-epochs: 1\n *\+epochs: 2"
    assert re.search(message, capsys.readouterr().err)


def test_missing_data_is_said_below_the_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    arguments = ["6", "--data", "imagenet", "--seeds", "7", "--output", str(tmp_path / "output")]
    monkeypatch.setattr(sys, "argv", [PROGRAM, *arguments])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(PROGRAM, run_name="__main__")
    out, err = capsys.readouterr()
    assert re.search(
        r"8 failed \(.*VI, seed 7.*\):\nval_data names .*imagenet/val, which does", err
    )
    assert "| VII | paper | 79.04 (+1.59) | 93.98 (+0.42) |" in out
    assert "- inception_v3, VI, seed 7" in out


def test_arms_are_the_papers():
    counts = {number: len(arms_of(number, [], [])) for number in (2, 4, 5, 6)}
    assert counts == {2: 11 * 3, 4: 13 * 2, 5: 6 * 8, 6: 8}
    assert {arm.key for arm in arms_of(4, [], [])} == paper.TABLE_4.keys()
    chosen = arms_of(5, ["timm/resnet26"], ["lip", "soft"])
    assert list(map(str, chosen)) == [
        f"timm/resnet26, {pool}" for pool in ("Original", "LIPPool", "SoftPool")
    ]
    with pytest.raises(KeyError, match="no pooling is called 'soup'"):
        arms_of(5, [], ["soup"])
    for number, networks, poolings in ((6, ["resnet18"], []), (2, [], ["lip"])):
        with pytest.raises(ValueError, match=f"Table {number} is of .*: leave out"):
            arms_of(number, networks, poolings)
    with pytest.raises(ValueError, match="torchvision has no network 'resnet181'; the nearest are"):
        arms_of(5, ["resnet18", "resnet181"], [])


def test_intervals_are_students():
    random = np.random.RandomState(0)
    first, second = random.normal(90, 1, (2, 5))
    ours, base = (dict(enumerate(values)) for values in (second, first))
    # A run without its twin does not count.
    found = Cell(71.27, {**ours, 9: 1.0}, (69.76, base), ".2f").differences().values()
    interval = ttest_rel(second, first).confidence_interval()
    expected = (1.51, np.mean(second - first), (interval.high - interval.low) / 2)
    assert tuple(found) == pytest.approx(expected)
    assert Cell(None, {1: 3.0}, (None, {1: 2.0}), ".2f").texts() == ("", "3.00 (+1.00)")
    # Equal differences, up to rounding: an interval of zero width would be read as certainty.
    alike = Cell(None, {1: 96.3, 2: 96.9, 3: 96.7}, (None, {1: 96.4, 2: 97.0, 3: 96.8}), ".2f")
    assert alike.texts() == ("", "96.63 (-0.10)")


def test_figures_by_seed_can_be_read():
    assert Cell(None, {1: 12345, 2: 7}, form="d", by_seed=True).texts() == ("", "12345, 7")
    assert Cell(411.02, {1: 1234.5}, form=".2f", by_seed=True).texts() == ("411.02", "1234.50")
    assert Cell(2.19e-91, {1: 0.25}, form=".3g", by_seed=True).texts() == ("2.19e-91", "0.25")


def test_given_weights_are_evaluated_with_both_poolings(trained, tables, tiny, output):
    weights = f"weights={trained}/model_final.safetensors"
    command = ("--networks", "detectron2/resnet18", "--set", weights, "allow_other_stem_pool=true")
    # Not the paper's network.
    assert "| paper " not in tables(2, "--epochs", 0, *command)
    found = json.loads((output / tiny.parent.name / "table_2.json").read_text())
    assert found["set"] == [weights, "allow_other_stem_pool=true"]
    row = found["rows"]["detectron2/resnet18"]
    trained_with = json.loads((trained / "result.json").read_text())["metrics"]["top1"]
    assert row["swapped, top-1"]["ours"] == {"1": trained_with}
    assert row["original, top-1"]["ours"].keys() == {"1"}
    assert row["scratch, top-1"]["ours"] == {}
    for given in (("--epochs", 0, *command), command):
        with pytest.raises(SystemExit, match="Table 4 is of networks trained from scratch"):
            tables(4, *given)
    with pytest.raises(SystemExit, match="--epochs 0 evaluates weights: give weights or network_"):
        tables(2, "--epochs", 0)


def test_one_folder_has_many_names(tables, tiny, monkeypatch, output):
    command = (4, "--networks", "resnet18", "--epochs", 1, "--set", "callbacks=[]")
    tables(*command)
    monkeypatch.chdir(tiny.parent.parent)
    name = tiny.parent.name
    for data in (name, f"{tiny.parent}/", f"./{name}/"):
        assert "Not finished" not in tables(*command, "--report", "--data", data)
    with pytest.raises(SystemExit, match=r"data must be one of digits, .*, got 'photos'"):
        tables(*command, "--report", "--data", "photos")
