"""The table, from made-up runs whose means and differences are plain to see."""

import math

import pytest

from softpool_det.comparison.cost import Cost
from softpool_det.comparison.table import (
    AP_COLUMNS,
    ArmResult,
    comparison_data,
    comparison_markdown,
    known_spread_note,
)


def run(ap, segm=None, seconds=60.0, memory=2 * 1024**3):
    metrics = {"bbox": dict.fromkeys(AP_COLUMNS, ap)}
    metrics["bbox"]["APl"] = None  # what JSON makes of NaN
    if segm is not None:
        metrics["segm"] = dict.fromkeys(AP_COLUMNS, segm)
    costs = {"train_seconds": seconds, "peak_memory_bytes": memory}
    return {"metrics": metrics, "device": "cpu", **costs}


def arms(baseline_runs, candidate_runs):
    return [
        ArmResult("stock", baseline_runs, Cost(11_000_000, 1.5, 10.0)),
        ArmResult("SoftPool", candidate_runs, Cost(11_000_000, 1.5, 12.5)),
    ]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_are_means_and_the_last_row_is_candidate_minus_baseline():
    data = comparison_data(arms({1: run(30.0), 2: run(32.0)}, {1: run(31.0), 2: run(30.0)}))
    lines = comparison_markdown(data).splitlines()
    header, _, stock, softpool, difference = map(cells, lines[:5])
    assert header[1:7] == list(AP_COLUMNS)
    assert [row[0] for row in (stock, softpool, difference)] == ["stock", "SoftPool", "difference"]
    column = header.index("AP")
    assert (stock[column], softpool[column], difference[column]) == ("31.00", "30.50", "-0.50")
    column = header.index("infer (ms/image)")
    assert (stock[column], softpool[column], difference[column]) == ("10.00", "12.50", "+2.50")
    column = header.index("peak memory (GiB)")
    assert (stock[column], difference[column]) == ("2.00", "+0.00")


def test_what_has_no_objects_is_marked():
    data = comparison_data(arms({1: run(30.0)}, {1: run(31.0)}))
    lines = comparison_markdown(data).splitlines()
    column = cells(lines[0]).index("APl")
    assert [cells(line)[column] for line in lines[2:5]] == ["n/a"] * 3
    assert math.isnan(data["difference"]["APl"])


def test_masks_have_columns_of_their_own():
    data = comparison_data(arms({1: run(30.0, segm=20.0)}, {1: run(31.0, segm=23.0)}))
    assert data["difference"]["mask AP"] == pytest.approx(3.0)
    assert "| mask AP " in comparison_markdown(data)


def test_taken_checkpoints_have_no_training_time():
    data = comparison_data(arms({1: run(30.0, seconds=None)}, {1: run(31.0, seconds=None)}))
    assert "train (min)" not in data["difference"]


def test_only_one_trained_arm_gives_no_difference_in_training_time():
    data = comparison_data(arms({1: run(30.0, seconds=None)}, {1: run(31.0)}))
    assert "train (min)" not in data["difference"]


def test_note_says_what_each_seed_gave():
    data = comparison_data(arms({1: run(30.0), 2: run(32.5)}, {1: run(31.0), 2: run(30.0)}))
    text = comparison_markdown(data)
    assert "stock: 30.0 to 32.5 (spread 2.5)" in text
    assert "difference: +1.00, -2.50" in text
    assert "30.0 to 32.5 (spread 2.5)" in known_spread_note(data)


def test_one_seed_claims_no_spread():
    text = comparison_markdown(comparison_data(arms({7: run(30.0)}, {7: run(31.0)})))
    assert "One seed (7)." in text
    assert "spread" not in text
