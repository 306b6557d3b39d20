"""Small parts of data sets, for a quick run."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import TypeVar

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from softpool_det.coco.checks import TRAINING
from softpool_det.coco.entries import Entries, read_json
from softpool_det.datasets import ensure_dataset
from softpool_det.datasets.json_files import (
    PARTS,
    JsonDataset,
    data_sets_of,
    json_dataset,
    with_data_sets,
)
from softpool_det.io.atomic import write_atomically
from softpool_det.io.data_errors import DataError

FOLDER = "limited_data"
_Config = TypeVar("_Config", CfgNode, DictConfig)


def limit_images(cfg: _Config, training: bool = True) -> _Config:
    """Replace a config's data sets by small parts of them, if it asks for that.

    `DATASETS.LIMIT_IMAGES` (in a LazyConfig: `datasets.limit_images`) is the number of images of
    each. They are drawn at random, always the same ones, and lie as files in the output folder.

    Args:
        cfg: of which :func:`softpool_det.datasets.use_json_files` was called.
        training: False where nothing is trained.

    Returns:
        `cfg` itself where it asks for no limit, otherwise a changed copy.

    Raises:
        DataError: the limit is below 0, or a data set is not in COCO's format.
    """
    limit = _limit_of(cfg)
    if limit < 0:
        raise DataError(f"DATASETS.LIMIT_IMAGES must be 0 or more, got {limit}")
    folder = Path(cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir, FOLDER)
    parts = {
        part: [_limited(name, limit, folder) for name in data_sets_of(cfg, part) if limit]
        for part in (PARTS if training else ("test",))
    }
    return with_data_sets(cfg, parts) if any(parts.values()) else cfg


def limit_remarks(cfg: CfgNode | DictConfig) -> list[str]:
    """Return a sentence on a limit, if one is set."""
    limit = _limit_of(cfg)
    return [f"A quick run, of {limit} images a data set (DATASETS.LIMIT_IMAGES)."] if limit else []


def _limit_of(cfg: CfgNode | DictConfig) -> int:
    if isinstance(cfg, CfgNode):
        return cfg.DATASETS.LIMIT_IMAGES
    return OmegaConf.select(cfg, "datasets.limit_images", default=0)


def _limited(name: str, limit: int, folder: Path) -> JsonDataset:
    ensure_dataset(name)
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file") is None:
        raise DataError(f"DATASETS.LIMIT_IMAGES: {name} is not a data set in COCO's format")
    # Their metadata would be lost.
    if metadata.get("evaluator_type", "coco") != "coco" or metadata.get("keypoint_names"):
        raise DataError(f"DATASETS.LIMIT_IMAGES: {name} must have boxes or masks alone, of COCO")
    path = Path(PathManager.get_local_path(metadata.json_file)).absolute()
    whole = json_dataset(path, Path(metadata.image_root).absolute())
    if whole.images <= limit:
        return whole
    data = read_json(path, plain=True)
    images = Entries(path, "images", data, TRAINING)
    images.unique_ids()
    # Not the first ones, which may be of one class or one place.
    places = sorted(random.Random(0).sample(range(whole.images), limit))
    data["images"] = [images.entries[place] for place in places]
    kept = {image["id"] for image in data["images"]}
    objects = Entries(path, "annotations", data, TRAINING, may_be_empty=True)
    data["annotations"] = [entry for entry in objects.entries if entry.get("image_id") in kept]
    # Files of two data sets may have one name.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    limited = folder / f"{path.stem}_{digest}_{limit}_of_{whole.images}.json"
    write_atomically(limited, json.dumps(data))
    return json_dataset(limited.absolute(), Path(whole.image_root))
