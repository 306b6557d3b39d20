"""From a config to the batches of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.data.build import _train_loader_from_config

from softpool_det.datasets.json_files import NO_OBJECT
from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.training.annotation_checks import check_training_annotations
from softpool_det.training.guarded_mapper import EvaluationBatches, GuardedMapper
from softpool_det.training.signals import stop_if_received
from softpool_det.training.train_loader import TrainLoader
from softpool_det.training.workers import with_lasting_workers

# By config and data set: Detectron2 asks for a loader before every evaluation.
_kept: dict[tuple[str, str], EvaluationBatches] = {}


def build_train_loader(cfg: CfgNode, skipped: Skipped) -> TrainLoader:
    """Detectron2's training loader of a config, in the form of :class:`TrainLoader`.

    Args:
        cfg: Detectron2's DATASETS, DATALOADER, INPUT and SOLVER keys, and this package's.
        skipped: takes what is skipped.

    Raises:
        DataError: an annotation file, or an entry of it, cannot be right; or the batch cannot be
            split evenly.
    """
    skip, folder = cfg.INPUT.SKIP_CORRUPT, Path(cfg.OUTPUT_DIR)
    names = [check_training_annotations(name, skip, skipped, folder) for name in cfg.DATASETS.TRAIN]
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = tuple(names)
    try:
        given = _train_loader_from_config(cfg)
    except AssertionError as error:  # nothing is left to train on
        raise DataError(f"DATASETS.TRAIN {', '.join(names)}: {NO_OBJECT}") from error
    return guarded_train_loader(
        **given,
        max_pixels=cfg.INPUT.MAX_PIXELS,
        seed=None if cfg.SEED < 0 else cfg.SEED,
        skip=skip,
        skipped=skipped,
        accumulate=cfg.SOLVER.ACCUMULATE_STEPS,
    )


def guarded_train_loader(
    dataset: Sequence[dict[str, Any]],
    *,
    mapper: Callable[[dict[str, Any]], Any],
    max_pixels: int,
    **options: Any,
) -> TrainLoader:
    """Build a :class:`TrainLoader` with a guarded mapper; other arguments are those of the two."""
    return TrainLoader(dataset, mapper=GuardedMapper(mapper, max_pixels), **options)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> EvaluationBatches:
    """Detectron2's evaluation loader of a config, guarded.

    With `DATALOADER.PERSISTENT_WORKERS` it is the same one each time, whose workers stay until the
    program's end.

    Args:
        cfg: Detectron2's DATALOADER and INPUT keys, and this package's.
        dataset_name: registered.
    """
    if not cfg.DATALOADER.PERSISTENT_WORKERS:
        return _test_loader(cfg, dataset_name)
    key = cfg.dump(), dataset_name
    if key not in _kept:
        _kept[key] = _test_loader(cfg, dataset_name)
    return _kept[key]


def _test_loader(cfg: CfgNode, dataset_name: str) -> EvaluationBatches:
    mapper = GuardedMapper(DatasetMapper(cfg, False), cfg.INPUT.MAX_PIXELS)
    loader = build_detection_test_loader(cfg, dataset_name, mapper=mapper)
    loader = with_lasting_workers(loader, cfg.DATALOADER.PERSISTENT_WORKERS)
    return EvaluationBatches(loader, before_batch=stop_if_received)
