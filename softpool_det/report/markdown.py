"""The comparison as a table: in Markdown for a paper or a pull request, or for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tabulate import tabulate

from softpool_det.report.formatting import MINUS, excludes_zero, interval, is_number, plain, signed
from softpool_det.report.schema import check_comparison
from softpool_det.report.wording import (
    METRICS,
    TASKS,
    interval_note,
    power_note,
    provenance_line,
    seed_note,
    terms_note,
)


class _Medium(NamedTuple):
    """How the figures are written for a reader."""

    heading: str  # of a task's name and the confidence
    marked: str  # of a difference whose interval excludes 0
    written: Callable[[str], str]  # a text on one line, shown as it is


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """Return the main table of a comparison, its verdicts, what the seeds say, and its source.

    A row for each arm, and one for each difference to the first; differences are bold where their
    interval excludes 0.

    Args:
        comparison: the content of comparison.json.

    Raises:
        ValueError: it lacks what every comparison has.
    """
    text = _write(comparison, _MARKDOWN)
    # A name may hold bytes that are not text (Python's lone surrogates).
    return text.encode(errors="backslashreplace").decode()


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Return the same for a terminal: nothing is escaped, a star stands for bold type.

    Raises:
        ValueError: as :func:`comparison_markdown`.
    """
    return _write(comparison, _TERMINAL)


def printable(text: str) -> str:
    r"""Return `text` on one line, with \x1b for what a terminal would obey, such as an escape."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _write(comparison: Mapping[str, Any], medium: _Medium) -> str:
    check_comparison(comparison)
    confidence = f"{100 * comparison['confidence']:g} %"
    parts = []
    for task, results in comparison["tasks"].items():
        parts.append(medium.heading.format(TASKS[task], confidence))
        parts.append(_table(results, comparison["names"], medium))
        verdicts = (medium.written(d["verdict"]) for d in results["differences"])
        parts.append("\n".join(f"- {verdict}" for verdict in verdicts))
        power = filter(None, map(power_note, results["differences"]))
        parts.append("\n".join(f"- {medium.written(note)}" for note in power))
    parts += [medium.written(remark) for remark in comparison.get("remarks") or ()]
    parts += [
        terms_note(comparison),
        seed_note(comparison),
        interval_note(comparison),
        medium.written(provenance_line(comparison)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(results: Mapping[str, Any], names: list[str], medium: _Medium) -> str:
    rows = [
        [medium.written(name), *(_arm_cell(results["metrics"][name][metric]) for metric in METRICS)]
        for name in names
    ]
    rows += [
        [
            " - ".join(medium.written(difference[key]) for key in ("candidate", "baseline")),
            *(_difference_cell(difference["metrics"][metric], medium) for metric in METRICS),
        ]
        for difference in results["differences"]
    ]
    return tabulate(rows, headers=["", *METRICS], tablefmt="github", disable_numparse=True)


def _arm_cell(entry: Mapping[str, Any]) -> str:
    return _ascii(plain(entry["value"]) + _brackets(entry, 1, sign=False))


def _difference_cell(entry: Mapping[str, Any], medium: _Medium) -> str:
    text = _ascii(signed(entry["value"]) + _brackets(entry, 2, sign=True))
    is_marked = is_number(entry["value"]) and excludes_zero(entry)
    return medium.marked.format(text) if is_marked else text


def _brackets(entry: Mapping[str, Any], digits: int, sign: bool) -> str:
    text = interval(entry, digits, sign, between=", ")
    return f" [{text}]" if text else ""


def _ascii(text: str) -> str:
    # Spreadsheets and scripts read this table, too.
    return text.replace(MINUS, "-")


def _escaped(text: str) -> str:
    """Text on one line that Markdown takes for nothing else."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*_|~$]|(?<=\])\()", r"\\\1", text)
    # At the start, a heading, a quotation or a list.
    return re.sub(r"^(\d*)([-+#>.)])", r"\1\\\2", text)


_MARKDOWN = _Medium("**{}** (in brackets: {} intervals)", "**{}**", _escaped)
_TERMINAL = _Medium(
    "{} ({} intervals in brackets; * marks those that exclude 0)", "{} *", printable
)
