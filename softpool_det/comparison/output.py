"""What a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softpool_det.engine.files import write_atomically, write_json
from softpool_det.report import GalleryRow, comparison_markdown, write_html

DATA_FILE = "comparison.json"
TABLE_FILE = "comparison.md"
REPORT_FILE = "report.html"


def write_comparison(
    folder: Path,
    data: Mapping,
    gallery: Sequence[GalleryRow] = (),
    activations: Sequence[GalleryRow] = (),
) -> None:
    """Write the data, the Markdown table and the report into `folder`."""
    write_json(folder / DATA_FILE, dict(data))
    write_atomically(folder / TABLE_FILE, comparison_markdown(data))
    write_html(folder / REPORT_FILE, data, gallery, activations)
