"""Real data for Detectron2 that needs no download by hand, and clear words where COCO is absent."""

from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.utils.colormap import colormap

from softpool_det.datasets import digit_scenes, tree_crowns
from softpool_det.datasets.cache import MadeDataset, datasets_root, ensure_made
from softpool_det.datasets.coco_files import check_coco_files
from softpool_det.datasets.json_files import use_json_files

__all__ = ["MADE_DATASETS", "ensure_dataset", "register_datasets", "use_json_files"]

MADE_DATASETS = {dataset.name: dataset for dataset in digit_scenes.DATASETS + tree_crowns.DATASETS}
"""Data sets of this package by name; they are made on first use."""


def register_datasets() -> None:
    """Register the data sets of this package with Detectron2, by the names of `MADE_DATASETS`.

    Calling it again changes nothing. As with Detectron2's own data sets, `$DETECTRON2_DATASETS`
    is read now; files are made or checked when a data set is first used.
    """
    root = datasets_root()
    for dataset in MADE_DATASETS.values():
        if dataset.name not in DatasetCatalog:
            _register(dataset, root)


def _register(dataset: MadeDataset, root: Path) -> None:
    json_file, image_root = str(dataset.json_file(root)), str(dataset.image_root(root))

    def load() -> list[dict[str, Any]]:
        ensure_made(dataset, root)
        return load_coco_json(json_file, image_root, dataset.name)

    DatasetCatalog.register(dataset.name, load)
    MetadataCatalog.get(dataset.name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(dataset.thing_classes),
        thing_colors=colormap(rgb=True)[: len(dataset.thing_classes)].astype(int).tolist(),
        # load_coco_json sets it too, but an evaluator may be built where nothing was loaded.
        thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(dataset.thing_classes))},
    )


def ensure_dataset(name: str) -> None:
    """Have a data set's files ready: make those of this package, check those of COCO.

    Args:
        name: a name registered with Detectron2 ("digit_scenes_train", "coco_2017_val").

    Raises:
        KeyError: the name is not registered.
        FileNotFoundError: COCO's files are absent; the first line says which, where and how.
        RuntimeError: a wheel that the data come from cannot be had (see `wheels.open_wheel`).
    """
    register_datasets()
    if name not in DatasetCatalog:
        raise KeyError(
            f"no data set {name!r} is registered with Detectron2; this package has "
            f"{sorted(MADE_DATASETS)}"
        )
    if name in MADE_DATASETS:
        # The folder it was registered with: $DETECTRON2_DATASETS may have changed since.
        ensure_made(MADE_DATASETS[name], Path(MetadataCatalog.get(name).json_file).parents[1])
    else:
        check_coco_files(name)
