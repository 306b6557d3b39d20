"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from softpool_det.io.atomic import write_atomically
from softpool_det.report import formatting, wording
from softpool_det.report.charts.svg import MARKER_SIGNS
from softpool_det.report.context import build_view
from softpool_det.report.drawing import COLOURS, MAX_LABELS
from softpool_det.report.overlay import GalleryRow
from softpool_det.report.pictures import PictureRow
from softpool_det.report.schema import check_comparison


def write_html(
    path: str | Path,
    comparison: Mapping[str, Any],
    gallery: Sequence[GalleryRow] = (),
    activations: Sequence[PictureRow] = (),
) -> None:
    """Write a comparison as one HTML file, readable offline, on a phone and in the dark.

    What the comparison does not have (costs, training, pictures ...) the report does not mention.

    Args:
        path: of the file, which is written atomically.
        comparison: the content of comparison.json.
        gallery: validation images with the ground truth and what each arm finds.
        activations: the stem's activation maps.

    Raises:
        ValueError: the comparison lacks what every comparison has, or a picture is unreadable.
    """
    check_comparison(comparison)
    environment = _environment()
    loader = environment.loader
    assert loader is not None
    sources = {name: loader.get_source(environment, name)[0] for name in ("page.css", "page.js")}
    # Ours, from the package: neither holds data.
    styles, script = (Markup(source) for source in sources.values())
    view = build_view(comparison, gallery, activations)
    text = environment.get_template("page.html.j2").render(
        view, styles=styles, script=script, script_hash=_hash(script)
    )
    # A file name may hold bytes that are not text (Python's lone surrogates).
    write_atomically(Path(path), text.encode(errors="backslashreplace").decode())


def _hash(script: str) -> str:
    """As a Content-Security-Policy names an inline script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("softpool_det.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=formatting.plain,
        signed=formatting.signed,
        count_text=formatting.count,
        interval=formatting.interval,
        p_value=formatting.p_value,
        probability=formatting.probability,
        joined=wording.joined,
        true_minus=formatting.true_minus,
        seeds_needed=wording.seeds_needed,
    )
    environment.tests.update(
        number=formatting.is_number,
        with_interval=formatting.has_interval,
        excludes_zero=formatting.excludes_zero,
    )
    environment.globals.update(
        METRICS=wording.METRICS,
        ERRORS=wording.ERRORS,
        SIGNS=MARKER_SIGNS,
        COLOURS=COLOURS,
        MAX_LABELS=MAX_LABELS,
    )
    return environment
