"""Pictures of a comparison's detectors for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig

from softpool_det.comparison.activations import activation_rows
from softpool_det.comparison.visualize import read_image
from softpool_det.report import GalleryRow, gallery_rows
from softpool_det.statistics.object_tests import BEST_F1, IOUS
from softpool_det.statistics.result_files import Runs
from softpool_det.training.annotation_checks import check_evaluation_annotations

# Detectors with which three channels each are still to be taken in at a glance.
FEW_DETECTORS = 2


def gallery(data: Mapping, runs: Runs, images: Path) -> list[GalleryRow]:
    """Draw the images that gained and lost most, by box AP, as the first seed's detectors see them.

    Shown are detections from each arm's score threshold of best F1 on, at IoU 0.5.

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


def activations(
    detectors: Sequence[tuple[str, CfgNode | DictConfig, Path | str]], dataset: str
) -> list[GalleryRow]:
    """Feature maps of each detector's stem, on the data set's first image with an object."""
    check_evaluation_annotations(dataset)  # puts sizes that are missing into the catalog
    records = DatasetCatalog.get(dataset)
    record = next((record for record in records if record["annotations"]), records[0])
    channels = 3 if len(detectors) <= FEW_DETECTORS else 1
    return activation_rows(detectors, read_image(Path(record["file_name"])), channels)


def image_folder(dataset: str) -> Path:
    return Path(MetadataCatalog.get(dataset).image_root)
