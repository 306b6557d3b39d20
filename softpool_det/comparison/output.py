"""What a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softpool_det.io.atomic import write_atomically, write_json
from softpool_det.report import (
    GalleryRow,
    PictureRow,
    comparison_markdown,
    gallery_rows,
    write_card,
    write_html,
)
from softpool_det.statistics.object_tests import BEST_F1, IOUS
from softpool_det.statistics.result_files import Runs

DATA_FILE = "comparison.json"
TABLE_FILE = "comparison.md"
REPORT_FILE = "report.html"
CARD_FILE = "comparison.png"


def write_figures(folder: Path, data: Mapping) -> None:
    """Write the data and the Markdown table into `folder`; what shows other figures goes first."""
    for name in (REPORT_FILE, CARD_FILE, TABLE_FILE):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / DATA_FILE, dict(data))
    write_atomically(folder / TABLE_FILE, comparison_markdown(data))


def write_report(
    folder: Path,
    data: Mapping,
    pictures: Sequence[GalleryRow],
    activations: Sequence[PictureRow] = (),
) -> None:
    """Write the report and its summary, a picture, into `folder`."""
    write_html(folder / REPORT_FILE, data, pictures, activations)
    write_card(folder / CARD_FILE, data)


def gallery(data: Mapping, runs: Runs, images: Path) -> list[GalleryRow]:
    """Draw the images that gained and lost most, by box AP, as the first seed's detectors see them.

    Shown at first are detections from each arm's score threshold of best F1 on, at IoU 0.5.

    Args:
        data: of the comparison, with `image_gains`.
        runs: that were compared.
        images: the folder of the images.
    """
    task = "bbox" if "bbox" in data["tasks"] else "segm"
    return gallery_rows(
        data["tasks"][task]["image_gains"],
        runs.truth,
        {name: detections[0] for name, detections in runs.detections.items()},
        images,
        thresholds=_thresholds(data["tasks"][task]["differences"], data["seeds"][0]),
        task=task,
    )


def _thresholds(differences: Sequence[Mapping], seed: int) -> dict[str, float]:
    """By arm, the score of best F1 at IoU 0.5; 0 for one that finds nothing."""
    found: dict[str, float] = {}
    for difference in differences:
        for row in difference["objects"]:
            if (row["iou"], row["scores"], row["seed"]) == (IOUS[0], BEST_F1, seed):
                pair = (difference["baseline"], difference["candidate"])
                found |= zip(pair, row["thresholds"], strict=True)
    return {name: threshold or 0.0 for name, threshold in found.items()}
