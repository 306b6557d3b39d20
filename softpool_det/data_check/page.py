"""data.html: findings, tables and pictures of data sets in one file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from softpool_det.data_check.check import CheckedSet, pictures_of
from softpool_det.data_check.findings import Finding
from softpool_det.report.standalone import render_page

# Of each set; data.json has all. More would be a page that no browser opens.
SHOWN = 10_000


def render(
    sets: Sequence[CheckedSet],
    across: Sequence[Finding],
    resize: tuple[int, int],
    open_images: bool,
) -> str:
    """Render the page, readable offline, on a phone and in dark mode.

    Args:
        sets: checked.
        across: findings between them.
        resize, open_images: as for :func:`softpool_det.data_check.check.check_sets`.
    """
    pictures = {
        checked.name: [
            (caption, f"data:image/png;base64,{base64.b64encode(png).decode()}")
            for caption, png in (pictures_of(checked) if open_images else [])
        ]
        for checked in sets
    }
    return render_page(
        "softpool_det.data_check",
        "data.html.j2",
        sets=sets,
        across=across,
        resize=resize,
        pictures=pictures,
        shown=SHOWN,
    )
