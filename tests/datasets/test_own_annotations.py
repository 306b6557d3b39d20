"""The annotation files that this package makes."""

from detectron2.data.datasets import register_coco_instances

from softpool_det.datasets import tree_crowns
from softpool_det.datasets.cache import ensure_made
from softpool_det.io.data_errors import Skipped
from softpool_det.training.annotation_checks import (
    check_evaluation_annotations,
    check_training_annotations,
)


def test_own_data_sets_are_good(small_datasets, root, tmp_path):
    trees = next(d for d in tree_crowns.DATASETS if d.name == "tree_crowns_val")
    ensure_made(trees, root)
    folders = [small_datasets / f"digit_scenes_{part}" for part in ("train", "val")]
    for folder in (*folders, root / trees.name):
        name = f"annotations_test_{folder.name}"
        register_coco_instances(name, {}, str(folder / "annotations.json"), str(folder / "images"))
        check_evaluation_annotations(name)
        assert check_training_annotations(name, False, Skipped(), tmp_path / "output") == name
