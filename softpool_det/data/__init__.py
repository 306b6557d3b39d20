"""Real data for Detectron2 that needs no download by hand."""

from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from . import digit_scenes
from .cache import MadeDataset, datasets_root, ensure_made

__all__ = ["ensure_dataset", "register_datasets"]

_MADE = {dataset.name: dataset for dataset in digit_scenes.DATASETS}


def register_datasets() -> None:
    """Register the data sets with Detectron2; calling it again changes nothing.

    As with Detectron2's own data sets, `$DETECTRON2_DATASETS` is read now and files are touched
    when a data set is first loaded.
    """
    root = datasets_root()
    for dataset in _MADE.values():
        if dataset.name not in DatasetCatalog:
            _register(dataset, root)


def _register(dataset: MadeDataset, root: Path) -> None:
    json_file, image_root = str(dataset.json_file(root)), str(dataset.image_root(root))

    def load() -> list[dict]:
        ensure_made(dataset, root)
        return load_coco_json(json_file, image_root, dataset.name)

    DatasetCatalog.register(dataset.name, load)
    count = len(dataset.thing_classes)
    MetadataCatalog.get(dataset.name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(dataset.thing_classes),
        # Set by load_coco_json too, but an evaluator may be built where nothing was loaded.
        thing_dataset_id_to_contiguous_id={i + 1: i for i in range(count)},
    )


def ensure_dataset(name: str) -> None:
    """Have the files of a data set ready: check them, and make them where they are missing."""
    if name in _MADE:
        ensure_made(_MADE[name], Path(MetadataCatalog.get(name).json_file).parents[1])
