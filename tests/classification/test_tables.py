"""softpool-tables as a user runs it, on a folder of real PNG files."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from softpool_det.classification import paper
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.table_report import Cell
from softpool_det.classification.tables import arms_of

PROGRAM = str(Path(__file__).parents[2] / "tools" / "tables.py")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture
def tables(tiny, output, monkeypatch, capsys):
    """The program on `tiny`'s pictures; what it prints."""

    def run(*arguments):
        fixed = ["--data", tiny.parent, "--recipe", tiny, "--output", output]
        monkeypatch.setattr(sys, "argv", [PROGRAM, *map(str, [*arguments, *fixed])])
        runpy.run_path(PROGRAM, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_tables_share_their_runs(tables, tiny, output):
    command = ("--networks", "resnet18", "--epochs", 1, "--set", "callbacks=[]")
    assert "Not finished:\n- resnet18, Original, seed 1\n" in tables(2, *command, "--report")
    text = tables(2, *command)
    assert "| resnet18 | paper | 11.7 " in text
    assert "71.27 (+1.51)" in text
    folder = output / tiny.parent.name
    assert "Not finished" not in text
    runs = folder / "torchvision" / "resnet18"
    said = {
        pool: Predictions.load(runs / pool / "seed_1" / "predictions.safetensors")
        for pool in ("Original", "SoftPool", "swapped")
    }
    row = json.loads((folder / "table_2.json").read_text())["rows"]["resnet18"]
    for column, pool in (("original", "Original"), ("scratch", "SoftPool"), ("swapped", "swapped")):
        assert row[f"{column}, top-1"]["ours"]["1"] == said[pool].accuracies()["top1"]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}
    assert len(before) == 3
    tables(4, *command)
    row = json.loads((folder / "table_4.json").read_text())["rows"]["resnet18, SoftPool"]
    test = mcnemar_test(said["Original"], said["SoftPool"])
    assert row["exact p"]["ours"]["1"] == test["exact_p_value"]
    assert row["chi-squared"]["paper"] == 90.08
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")} == before
    assert (folder / "table_4.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match=r"another config(.|\n)*-epochs: 1\n *\+epochs: 2"):
        tables(5, *command[:3], 2, *command[4:], "--report")


def test_missing_data_is_said_below_the_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    arguments = ["6", "--data", "imagenet", "--seeds", "7", "--output", str(tmp_path / "output")]
    monkeypatch.setattr(sys, "argv", [PROGRAM, *arguments])
    with pytest.raises(SystemExit, match=r"^error: val_data names .*imagenet/val, which does not"):
        runpy.run_path(PROGRAM, run_name="__main__")
    out = capsys.readouterr().out
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


def test_intervals_are_students():
    random = np.random.RandomState(0)
    first, second = random.normal(90, 1, (2, 5))
    ours, base = (dict(enumerate(values)) for values in (second, first))
    # A run without its twin does not count.
    found = Cell(71.27, {**ours, 9: 1.0}, (69.76, base), style="accuracy").differences()
    interval = ttest_rel(second, first).confidence_interval()
    expected = (1.51, np.mean(second - first), (interval.high - interval.low) / 2)
    assert found == pytest.approx(expected)
    assert Cell(None, {1: 3.0}, (None, {1: 2.0}), "accuracy").texts() == ("", "3.00 (+1.00)")
