import math
import re

import report_examples

from softpool_det.report import comparison_markdown
from softpool_det.report.words import METRICS


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(text, number=0):
    """Rows of the n-th table, by their first cell."""
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    lines = blocks[number].splitlines()
    assert cells(lines[0]) == ["", *METRICS]
    return {row[0]: row[1:] for row in map(cells, lines[2:])}


def test_rows_are_arms_and_differences():
    comparison = report_examples.full(("stock", "A", "B"))
    text = comparison_markdown(comparison)
    for number, task in enumerate(("bbox", "segm")):
        rows = table(text, number)
        assert list(rows) == ["stock", "A", "B", "A - stock", "B - stock"]
        metrics = comparison["tasks"][task]["metrics"]["A"]
        entry = metrics["AP"]
        assert rows["A"][0] == f"{entry['value']:.1f} [{entry['low']:.1f}, {entry['high']:.1f}]"


def test_bold_where_the_interval_excludes_zero_and_only_there():
    comparison = report_examples.full()
    row = table(comparison_markdown(comparison))["SoftPool - stock"]
    metrics = comparison["tasks"]["bbox"]["differences"][0]["metrics"]
    for cell, metric in zip(row, METRICS, strict=True):
        entry = metrics[metric]
        outside = entry["low"] is not None and not entry["low"] <= 0 <= entry["high"]
        assert (cell.startswith("**") and cell.endswith("**")) == outside, metric
    assert row[0] == "**+1.00 [+0.40, +1.60]**"
    assert row[5] == "n/a"


def test_nan_in_memory_is_as_null_in_the_file():
    comparison = report_examples.minimal()
    entry = comparison["tasks"]["bbox"]["differences"][0]["metrics"]["APl"]
    before = comparison_markdown(comparison)
    entry |= dict.fromkeys(entry, math.nan)
    assert comparison_markdown(comparison) == before


def test_says_verdict_seeds_and_where_it_comes_from():
    text = comparison_markdown(report_examples.full())
    assert "- SoftPool is 1.00 AP ahead of stock (95 % interval 0.40 to 1.60)." in text
    assert "Means over seeds 1, 2, 3" in text
    assert text.splitlines()[-1].startswith("5,000 images, 36,335 objects, 5 classes, 3 seeds each")
    assert "commit 2496216a0b1c" in text
    assert "not a finding" in comparison_markdown(report_examples.minimal())


def test_hostile_names_stay_in_their_cell():
    names = ("a|b", "<script>*x*</script>\n| c |")
    rows = table(comparison_markdown(report_examples.minimal(names)))
    assert list(rows)[:2] == ["a\\|b", "&lt;script>\\*x\\*&lt;/script> \\| c \\|"]
    assert all(len(row) == len(METRICS) for row in rows.values())
