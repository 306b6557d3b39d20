"""A user's own data: COCO's JSON and folders of images, which the config names by their paths."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from omegaconf import DictConfig, OmegaConf

from softpool_det.coco.checks import TRAINING, category_fault
from softpool_det.coco.entries import Entries, read_json
from softpool_det.io.data_errors import DataError

# Where Detectron2's detectors have their number of classes.
_CLASSES = ("MODEL.RETINANET.NUM_CLASSES", "MODEL.ROI_HEADS.NUM_CLASSES")
_LAZY_CLASSES = ("model.num_classes", "model.head.num_classes", "model.roi_heads.num_classes")
# Said of ids with gaps, which are right here; on a console it breaks the progress line.
logging.getLogger("detectron2.data.datasets.coco").addFilter(
    lambda record: "Category ids in annotations" not in record.getMessage()
)
PARTS = ("train", "validation", "test")
# As softpool-check-data says it.
NO_OBJECT = "it has no object to train on; annotate some"
_Config = TypeVar("_Config", CfgNode, DictConfig)


@dataclass(frozen=True)
class JsonDataset:
    """A file in COCO's format and its images.

    Args:
        json_file: absolute path; also the data set's name in Detectron2's catalog.
        image_root: absolute path of the folder that `file_name` starts from.
        categories: id and name of each, by id.
        images: their number.
        has_objects: an annotation is not of a crowd.
    """

    json_file: str
    image_root: str
    categories: tuple[tuple[int, str], ...]
    images: int
    has_objects: bool

    def register(self) -> None:
        """Add it to Detectron2's catalogs, in place of one of the same name."""
        name = self.json_file
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog:
                catalog.remove(name)
        DatasetCatalog.register(name, lambda: load_coco_json(name, self.image_root, name))
        MetadataCatalog.get(name).set(
            json_file=name,
            image_root=self.image_root,
            evaluator_type="coco",
            # load_coco_json sets them too, but an evaluator may be built where nothing was loaded.
            thing_classes=[label for _, label in self.categories],
            thing_dataset_id_to_contiguous_id={
                number: place for place, (number, _) in enumerate(self.categories)
            },
        )


def use_json_files(cfg: _Config, training: bool = True) -> _Config:
    """Register the data sets that a config names by their files, and name them in it.

    YAML has them in `DATASETS.TRAIN_JSON` and `TRAIN_IMAGES`, `VALIDATION_JSON` ... and `TEST_JSON`
    ..., each a tuple of paths; a LazyConfig in `datasets.train_json` and so on, lists. They take
    the place of the config's own data sets: with a training set and no test set nothing is
    evaluated. The number of classes becomes theirs.

    Args:
        cfg: what :func:`softpool_det.config.load_config` returns.
        training: False where nothing is trained: files of training sets need not be there.

    Returns:
        `cfg` itself where it names no files, otherwise a changed copy.

    Raises:
        DataError: a file or a folder is not there, is not what it should be, two of the files have
            other categories, or nothing is annotated to train on; one line.
    """
    names = PARTS if training else ("test",)
    parts: dict[str, list[JsonDataset]] = {part: _datasets(cfg, part) for part in names}
    sets = [dataset for part in parts.values() for dataset in part]
    if not sets:
        return cfg
    for other in sets[1:]:
        _check_same(sets[0], other)
    to_train_on = parts.get("train", [])
    if to_train_on and not any(dataset.has_objects for dataset in to_train_on):
        files = ", ".join(dataset.json_file for dataset in to_train_on)
        raise DataError(f"{files}: {NO_OBJECT}")
    return with_data_sets(cfg, parts)


def json_files_of(cfg: CfgNode | DictConfig) -> list[Path]:
    """List the files that a config names."""
    return [path for part in PARTS for path in _paths(cfg, _keys(cfg, part)[0])]


def class_remarks(cfg: CfgNode | DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return sentences on numbers of classes that were given, but are not the data's.

    Args:
        cfg: with the data's number of classes.
        overrides: what changed the config before: keys and values, or "key=value".
    """
    if isinstance(cfg, CfgNode):
        pairs = dict(zip(overrides[::2], overrides[1::2], strict=False))
    else:
        pairs = {key: value for key, _, value in (word.partition("=") for word in overrides)}
    given = {key: str(pairs[key]) for key in (*_CLASSES, *_LAZY_CLASSES) if key in pairs}
    used = {key: functools.reduce(getattr, key.split("."), cfg) for key in given}
    return [
        f"{key} {value} was given, the data have {used[key]}: {used[key]} is used"
        for key, value in given.items()
        if value != str(used[key])
    ]


def data_sets_of(cfg: CfgNode | DictConfig, part: str) -> list[str]:
    """Names of a config's data sets, of a part of `PARTS`."""
    if isinstance(cfg, CfgNode):
        return list(cfg.DATASETS[part.upper()])
    names = OmegaConf.select(cfg, _lazy_key(part)) or ()
    return [names] if isinstance(names, str) else list(names)


def _lazy_key(part: str) -> str:
    # Detectron2's LazyConfigs have no place for validation sets.
    return "datasets.validation" if part == "validation" else f"dataloader.{part}.dataset.names"


def summary(cfg: CfgNode | DictConfig, training: bool = True) -> str | None:
    """One line about the data sets that a config names by their files; None where it does not."""
    parts = {"test on": _datasets(cfg, "test")}
    if training:
        choose = {"validate on": _datasets(cfg, "validation")}
        parts = {"train on": _datasets(cfg, "train"), **choose, **parts}
    sets = [dataset for part in parts.values() for dataset in part]
    if not sets:
        return None
    names = [label for _, label in sets[0].categories]
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    counts = [
        f"{sum(dataset.images for dataset in part):,} images to {what}"
        for what, part in parts.items()
        if part
    ]
    plural = "class" if len(names) == 1 else "classes"
    line = f"Your data: {len(names)} {plural} ({shown}), {', '.join(counts)}"
    if parts["test on"] or parts.get("validate on"):
        return line
    return line + "; no test set, so that nothing is evaluated"


def _datasets(cfg: CfgNode | DictConfig, part: str) -> list[JsonDataset]:
    json_key, images_key = _keys(cfg, part)
    files, folders = (_paths(cfg, key) for key in (json_key, images_key))
    if len(files) != len(folders):
        raise DataError(
            f"files in {json_key}: {len(files)}, folders in {images_key}: {len(folders)}; each "
            "file needs the folder of its images"
        )
    for file, key in ((file, json_key) for file in files):
        if not file.is_file():
            raise DataError(f"{key}: {file} is not a file; it must be COCO's JSON")
        if files.count(file) > 1:
            raise DataError(f"{key}: {file} is given twice")
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{images_key}: {folder} is not a folder")
    return [json_dataset(file, folder) for file, folder in zip(files, folders, strict=True)]


def _keys(cfg: CfgNode | DictConfig, part: str) -> tuple[str, str]:
    if isinstance(cfg, CfgNode):
        return f"DATASETS.{part.upper()}_JSON", f"DATASETS.{part.upper()}_IMAGES"
    return f"datasets.{part}_json", f"datasets.{part}_images"


def _paths(cfg: CfgNode | DictConfig, key: str) -> list[Path]:
    if isinstance(cfg, CfgNode):
        found: Iterable[str] | str = cfg.DATASETS[key.partition(".")[2]]
    else:
        found = OmegaConf.select(cfg, key) or ()
    paths = [found] if isinstance(found, str) else list(found)
    return [Path(path).expanduser().absolute() for path in paths]


def json_dataset(file: Path, folder: Path) -> JsonDataset:
    """Return the data set of a file and the folder of its images, both absolute."""
    status = file.stat()
    return JsonDataset(str(file), str(folder), *_contents(file, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _contents(path: Path, size: int, changed: int) -> tuple[tuple[tuple[int, str], ...], int, bool]:
    """What `JsonDataset` has of a file; `size` and `changed` detect a changed one."""
    data = read_json(path, plain=True)
    categories = Entries(path, "categories", data, TRAINING)
    categories.unique_ids()
    categories.check(category_fault)
    images = Entries(path, "images", data, TRAINING).entries
    # COCO's test sets have no annotations.
    with_annotations = {"annotations": [], **data}
    objects = Entries(path, "annotations", with_annotations, TRAINING, may_be_empty=True).entries
    has_objects = not all(entry.get("iscrowd", 0) for entry in objects)
    pairs = sorted((entry["id"], entry["name"]) for entry in categories.entries)
    return tuple(pairs), len(images), has_objects


def _check_same(first: JsonDataset, other: JsonDataset) -> None:
    if first.json_file == other.json_file and first.image_root != other.image_root:
        raise DataError(
            f"{first.json_file} is given with two folders of images, {first.image_root} and "
            f"{other.image_root}"
        )
    missing = sorted(set(first.categories) - set(other.categories))
    added = sorted(set(other.categories) - set(first.categories))
    if missing or added:
        raise DataError(
            f"{other.json_file} has other categories (id, name) than {first.json_file}: "
            f"{added!r:.200} in place of {missing!r:.200}; they must be the same in all files"
        )


def with_data_sets(cfg: _Config, parts: dict[str, list[JsonDataset]]) -> _Config:
    """Register data sets, and return a copy of a config that has them, by part, as its own."""
    for dataset in (dataset for sets in parts.values() for dataset in sets):
        dataset.register()
    classes = len(next(sets[0].categories for sets in parts.values() if sets))
    if isinstance(cfg, DictConfig):
        return _named_lazily(cfg, parts, classes)
    cfg = cfg.clone()
    cfg.defrost()
    for part, sets in parts.items():
        cfg.DATASETS[part.upper()] = tuple(dataset.json_file for dataset in sets)
        cfg.DATASETS[f"{part.upper()}_JSON"] = tuple(dataset.json_file for dataset in sets)
        cfg.DATASETS[f"{part.upper()}_IMAGES"] = tuple(dataset.image_root for dataset in sets)
    cfg.merge_from_list([word for key in _CLASSES for word in (key, classes)])
    cfg.freeze()
    return cfg


def _named_lazily(cfg: DictConfig, parts: dict[str, list[JsonDataset]], classes: int) -> DictConfig:
    for part in ("validation", "test"):
        if len(parts.get(part, ())) > 1:
            raise DataError(
                f"datasets.{part}_json must name one file, all that a LazyConfig's evaluator "
                f"takes, got {len(parts[part])}"
            )
    cfg = cfg.copy()
    for part, sets in parts.items():
        names = [_literal(dataset.json_file) for dataset in sets]
        # Text where it is one: the evaluator's name is this one.
        name = names[0] if len(names) == 1 else names
        OmegaConf.update(cfg, _lazy_key(part), name, force_add=part == "validation")
        OmegaConf.update(cfg, f"datasets.{part}_json", names, force_add=True)
        images = [_literal(dataset.image_root) for dataset in sets]
        OmegaConf.update(cfg, f"datasets.{part}_images", images, force_add=True)
    for key in _LAZY_CLASSES:
        if OmegaConf.select(cfg, key) is not None:
            OmegaConf.update(cfg, key, classes)
    return cfg


def _literal(path: str) -> str:
    """Quote a path so that OmegaConf takes it literally."""
    return path.replace("${", "\\${")
