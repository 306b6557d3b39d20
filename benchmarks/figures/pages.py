"""Pictures of the package, of photographs and of a report's page."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import tomllib
from PIL import Image

from figures.style import BLUE, few_colours, new_figure

ROOT = Path(__file__).resolve().parents[2]
# Of `make demo`.
REPORT = ROOT / "output" / "demo" / "digits_retinanet" / "report.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def layers() -> list[list[str]]:
    """The rooms, the top line first, as `make lint` checks them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in contracts["contracts"] if each["type"] == "layers"]
    return [line.split(" | ") for line in contract["layers"]]


def draw_rooms() -> Any:
    """A band for each line, with its rooms as boxes."""
    lines = layers()
    figure, axis = new_figure(0.38 * len(lines) + 0.4)
    widest = max(map(len, lines))
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": BLUE}
    for height, rooms in zip(range(len(lines), 0, -1), lines, strict=True):
        axis.axhspan(height - 0.42, height + 0.42, color="#E5F1F8", lw=0)
        axis.text(-0.1, height, height, ha="center", va="center", color="#555555")
        for number, room in enumerate(rooms):
            at = (widest - len(rooms) + 1) / 2 + number
            axis.text(at, height, room, ha="center", va="center", bbox=box)
    axis.set(xlim=(-0.25, widest + 0.1), ylim=(0.5, len(lines) + 0.5))
    axis.set_title("A room may import from the rooms of the lines below its own.")
    axis.axis("off")
    return figure


def draw_similarity() -> bytes:
    """A photograph through every pooling, by `softpool-similarity`'s code, without its training."""
    from softpool_det.similarity.photographs import installed_photographs
    from softpool_det.similarity.pictures import Chosen, draw
    from softpool_det.similarity.poolings import POOLINGS

    (photograph,) = [each for each in installed_photographs() if "hopper" in each.name]
    keys = [pooling.key for pooling in POOLINGS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pooled.png")
        draw([photograph], Chosen(keys, 3, 0, {}), path, None)
        return few_colours(Image.open(path), 256)


def draw_report(report: Path = REPORT) -> bytes | None:
    """The top of the demo's report in Chromium; None where one of the two is not there."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not report.is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.png")
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars"]
        command += ["--window-size=760,640", f"--screenshot={path}", report.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return few_colours(Image.open(io.BytesIO(path.read_bytes())), 128)
