"""What a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from softpool_det.io.atomic import write_atomically, write_json
from softpool_det.report import comparison_markdown

DATA_FILE = "comparison.json"
TABLE_FILE = "comparison.md"
REPORT_FILE = "report.html"


def write_figures(folder: Path, data: Mapping) -> None:
    """Write the data and the Markdown table into `folder`; a report of other figures goes."""
    write_json(folder / DATA_FILE, dict(data))
    (folder / REPORT_FILE).unlink(missing_ok=True)
    write_atomically(folder / TABLE_FILE, comparison_markdown(data))
