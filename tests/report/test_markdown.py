import math
import re

import report_examples

from softpool_det.report import comparison_markdown, comparison_text, printable
from softpool_det.report.wording import METRICS


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


def test_explains_its_terms():
    comparison = report_examples.full()
    for text in (comparison_markdown(comparison), comparison_text(comparison)):
        assert "AP is average precision in percent" in text
        assert "P(better) is the probability that the candidate is ahead" in text
        assert "n/a means that there is nothing to measure." in text
    figures = comparison["tasks"]
    for results in figures.values():
        for arm in results["metrics"].values():
            arm["APl"] = arm["AP"]
    assert "nothing to measure" not in comparison_text(comparison)


def test_says_verdict_seeds_and_where_it_comes_from():
    text = comparison_markdown(report_examples.full())
    assert "- SoftPool is 1.00 AP ahead of stock (95 % interval 0.40 to 1.60)." in text
    assert "Means over seeds 1, 2, 3" in text
    assert text.splitlines()[-1].startswith("5,000 images, 36,335 objects, 5 classes, 3 seeds each")
    assert "commit 2496216a0b1c-dirty" in text
    assert "not a finding" in comparison_markdown(report_examples.minimal())


def test_hostile_names_stay_in_their_cell():
    names = ("a|b", "<script>*x*</script>\n| c |")
    rows = table(comparison_markdown(report_examples.minimal(names)))
    assert list(rows)[:2] == ["a\\|b", "&lt;script>\\*x\\*&lt;/script> \\| c \\|"]
    assert all(len(row) == len(METRICS) for row in rows.values())


HOSTILE = "a<b & *c*_d_|e~f $1$"


def test_names_as_a_terminal_and_as_markdown_show_them():
    comparison = report_examples.minimal(("1. stock", HOSTILE))
    comparison["tasks"]["bbox"]["differences"][0]["verdict"] = f"{HOSTILE} wins (P(better) < 0.01)"
    text, markdown = comparison_text(comparison), comparison_markdown(comparison)
    assert f"- {HOSTILE} wins (P(better) < 0.01)\n" in text
    assert f"| {HOSTILE} " in text
    assert f"| {HOSTILE} - 1. stock " in text
    escaped = r"a&lt;b &amp; \*c\*\_d\_\|e\~f \$1\$"
    assert f"- {escaped} wins (P(better) &lt; 0.01)\n" in markdown
    assert f"| {escaped} " in markdown
    assert r"| 1\. stock " in markdown
    for written in ("&lt;", "&amp;", "\\", "**"):
        assert written not in text


def test_a_terminal_gets_a_star_for_bold_type():
    text = comparison_text(report_examples.full())
    assert "Boxes (95 % intervals in brackets; * marks those that exclude 0)" in text
    assert table(text)["SoftPool - stock"][0] == "+1.00 [+0.40, +1.60] *"
    markdown = comparison_markdown(report_examples.full())
    assert text.count("] *") == markdown.count("]**")


def test_a_terminal_gets_no_control_characters():
    assert printable("a\x1b[31m\nb\u202e\udcff \N{MINUS SIGN}3²") == (
        "a\\x1b[31m b\\u202e\\udcff \N{MINUS SIGN}3²"
    )
    text = comparison_text(report_examples.minimal(("stock", "\x1b]0;title\x07")))
    assert "| \\x1b]0;title\\x07 " in text
    assert text.replace("\n", "").isprintable()


def test_a_verdict_is_no_heading_or_list():
    for name, escaped in (("# a", r"\# a"), ("1) a", r"1\) a"), ("> a", r"\> a"), ("- a", r"\- a")):
        comparison = report_examples.minimal(("stock", name))
        comparison["tasks"]["bbox"]["differences"][0]["verdict"] = f"{name} wins."
        assert f"\n- {escaped} wins.\n" in comparison_markdown(comparison)
