"""data.html: findings, tables and pictures of data sets in one file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from softpool_det.data_check.check import CheckedSet, pictures_of
from softpool_det.data_check.findings import Finding

# Of each set; data.json has all.
SHOWN = 200


def render(
    sets: Sequence[CheckedSet],
    across: Sequence[Finding],
    resize: tuple[int, int],
    open_images: bool,
) -> str:
    """The page, readable offline, on a phone and in the dark.

    Args:
        sets: checked.
        across: findings between them.
        resize, open_images: as for :func:`softpool_det.data_check.check.check_set`.
    """
    # The report's, for its styles.
    loaders = [PackageLoader("softpool_det.data_check"), PackageLoader("softpool_det.report")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Ours, from the package: it holds no data.
    styles = Markup(loaders[1].get_source(environment, "page.css")[0])
    pictures = {
        checked.name: [
            (caption, f"data:image/png;base64,{base64.b64encode(png).decode()}")
            for caption, png in (pictures_of(checked) if open_images else [])
        ]
        for checked in sets
    }
    page = environment.get_template("data.html.j2").render(
        sets=sets, across=across, resize=resize, pictures=pictures, styles=styles, shown=SHOWN
    )
    # A file's name may hold bytes that are no text (Python's lone surrogates).
    return page.encode(errors="backslashreplace").decode()
