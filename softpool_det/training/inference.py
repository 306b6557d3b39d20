"""A model's detections on the images of test-dev, by Detectron2's own evaluator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from softpool_det.datasets import ensure_dataset, register_datasets
from softpool_det.training import EXPECTED, describe, run
from softpool_det.training.launching import launch_processes
from softpool_det.training.signals import Interrupted

RESULTS = Path("inference", "coco_instances_results.json")


def image_info_file(dataset: str) -> Path:
    """Return the file with a data set's images and categories; needs no image.

    Raises:
        KeyError: no such data set is registered with Detectron2.
        FileNotFoundError: COCO's files are absent; says which, where and how.
    """
    register_datasets()
    if dataset in DatasetCatalog:
        path = Path(MetadataCatalog.get(dataset).json_file)
        if path.is_file():
            return path
    ensure_dataset(dataset)
    return Path(MetadataCatalog.get(dataset).json_file)


def detect(
    config_file: str,
    weights: str,
    dataset: str,
    folder: Path,
    overrides: Sequence[str] = (),
    num_gpus: int = 1,
    trust_lazy_config: bool = False,
) -> Path:
    """Run a model over a data set as `tools/train_net.py --eval-only` does.

    Args:
        config_file: YAML or LazyConfig.
        weights: a path or URL of the detector's checkpoint.
        dataset: a name registered with Detectron2, takes the place of the config's own test set.
        folder: of the run.
        overrides: as for :func:`softpool_det.config.load_config`.
        num_gpus: processes, one a GPU.
        trust_lazy_config: as for :func:`softpool_det.config.load_config`.

    Returns:
        Path of the result file.

    Raises:
        FileNotFoundError: weights or data are missing; says how to get them.
        PermissionError: a LazyConfig that is not trusted.
        RuntimeError: the evaluator wrote no results.
    """
    results = folder / RESULTS
    # One of an earlier run must not pass for this one's.
    results.unlink(missing_ok=True)
    args = argparse.Namespace(
        config_file=config_file,
        eval_only=True,
        resume=False,
        progress="",
        trust_pickle=False,
        trust_lazy_config=trust_lazy_config,
        num_gpus=num_gpus,
        num_machines=1,
        machine_rank=0,
        dist_url="auto",
        opts=[*overrides, *_options(config_file, weights, dataset, folder)],
    )
    try:
        launch_processes(_run, args)
    except Interrupted as error:
        # That is success for a training, which resumes later.
        raise RuntimeError("interrupted by a signal; nothing was written") from error
    if not results.is_file():
        raise RuntimeError(f"the model gave no results on {dataset}: {results} was not written")
    return results


def _run(args: argparse.Namespace) -> None:
    try:
        run(args)
    except EXPECTED as error:
        if args.num_gpus <= 1:
            raise
        # Of one process among several the parent learns the status alone.
        sys.exit(describe(error))


def _options(config_file: str, weights: str, dataset: str, folder: Path) -> list[str]:
    if config_file.endswith(".py"):
        return [
            f"dataloader.test.dataset.names={dataset}",
            "datasets.test_json=[]",
            "datasets.test_images=[]",
            f"dataloader.evaluator.output_dir={folder / RESULTS.parent}",
            f"train.init_checkpoint={weights}",
            f"train.output_dir={folder}",
        ]
    return [
        *("DATASETS.TEST", f"('{dataset}',)"),
        # They would take the place of that.
        *("DATASETS.TEST_JSON", "()", "DATASETS.TEST_IMAGES", "()"),
        *("MODEL.WEIGHTS", weights),
        *("OUTPUT_DIR", str(folder)),
    ]
