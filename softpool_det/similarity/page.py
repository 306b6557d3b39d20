"""similarity.html: tables and pictures in one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from softpool_det.report.standalone import render_page
from softpool_det.similarity.table import NOTES, all_tables, scope

QUALITY = 85


def render(result: Mapping[str, Any], picture: Path) -> str:
    """Render the page, readable offline, on a phone and in dark mode.

    Args:
        result: the content of similarity.json.
        picture: pooled.png.
    """
    with Image.open(picture) as image:
        return render_page(
            "softpool_det.similarity",
            "similarity.html.j2",
            result=result,
            tables=all_tables(result),
            notes=NOTES,
            scope=scope(result),
            size=image.size,
            uri=_embedded(image),
        )


def _embedded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
