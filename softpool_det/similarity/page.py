"""similarity.html: tables and pictures in one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from softpool_det.similarity.table import NOTES, all_tables, scope

QUALITY = 85


def render(result: Mapping[str, Any], picture: Path) -> str:
    """The page, readable offline, on a phone and in the dark.

    Args:
        result: the content of similarity.json.
        picture: pooled.png.
    """
    # The report's, for its styles.
    loaders = [PackageLoader("softpool_det.similarity"), PackageLoader("softpool_det.report")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Ours, from the package: it holds no data.
    styles = Markup(loaders[1].get_source(environment, "page.css")[0])
    with Image.open(picture) as image:
        page = environment.get_template("similarity.html.j2").render(
            result=result,
            tables=all_tables(result),
            notes=NOTES,
            scope=scope(result),
            styles=styles,
            size=image.size,
            uri=_embedded(image),
        )
    # A file's name may hold bytes that are no text (Python's lone surrogates).
    return page.encode(errors="backslashreplace").decode()


def _embedded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
