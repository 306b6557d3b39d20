"""The comparison as a Markdown table, for a paper or a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from softpool_det.report.checks import check_comparison
from softpool_det.report.numbers import MINUS, excludes_zero, interval, is_number, plain, signed
from softpool_det.report.words import METRICS, TASKS, provenance_line, seed_note


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """The main table of a comparison, its verdicts, what the seeds say, and where it comes from.

    A row for each arm, and one for each difference to the first; differences are bold where their
    interval excludes 0.

    Args:
        comparison: the content of comparison.json.

    Raises:
        ValueError: it lacks what every comparison has.
    """
    check_comparison(comparison)
    parts = []
    for task, results in comparison["tasks"].items():
        parts.append(f"**{TASKS[task]}** (in brackets: {_percent(comparison)} intervals)")
        parts.append(_table(results, comparison["names"]))
        parts.append("\n".join(f"- {_escaped(d['verdict'])}" for d in results["differences"]))
    parts += [_escaped(note) for note in comparison.get("remarks") or ()]
    parts.append(f"{seed_note(comparison)}\n\n{_escaped(provenance_line(comparison))}")
    text = "\n\n".join(parts) + "\n"
    # A name may hold bytes that are no text (Python's lone surrogates).
    return text.encode(errors="backslashreplace").decode()


def _percent(comparison: Mapping[str, Any]) -> str:
    return f"{100 * comparison['confidence']:g} %"


def _table(results: Mapping[str, Any], names: list[str]) -> str:
    rows = [
        [_escaped(name), *(_arm_cell(results["metrics"][name][metric]) for metric in METRICS)]
        for name in names
    ]
    rows += [
        [
            f"{_escaped(difference['candidate'])} - {_escaped(difference['baseline'])}",
            *(_difference_cell(difference["metrics"][metric]) for metric in METRICS),
        ]
        for difference in results["differences"]
    ]
    return tabulate(rows, headers=["", *METRICS], tablefmt="github", disable_numparse=True)


def _arm_cell(entry: Mapping[str, Any]) -> str:
    return _ascii(plain(entry["value"]) + _brackets(entry, 1, sign=False))


def _difference_cell(entry: Mapping[str, Any]) -> str:
    text = _ascii(signed(entry["value"]) + _brackets(entry, 2, sign=True))
    return f"**{text}**" if is_number(entry["value"]) and excludes_zero(entry) else text


def _brackets(entry: Mapping[str, Any], digits: int, sign: bool) -> str:
    text = interval(entry, digits, sign, between=", ")
    return f" [{text}]" if text else ""


def _ascii(text: str) -> str:
    # Spreadsheets and scripts read this table, too.
    return text.replace(MINUS, "-")


def _escaped(text: str) -> str:
    """Text on one line that Markdown takes for nothing else."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|~]|(?<=\])\()", r"\\\1", text)
