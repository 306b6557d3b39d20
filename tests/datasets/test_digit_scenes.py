from itertools import islice

import numpy as np
import pytest
from pycocotools import mask as mask_util

from softpool_det.datasets import digit_scenes
from softpool_det.datasets.digit_scenes import DATASETS, load_digits

SCENES = 40


@pytest.fixture
def digits(fetched_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(fetched_root))
    return {split: load_digits(split) for split in ("train", "val")}


@pytest.fixture(params=DATASETS, ids=lambda dataset: dataset.name)
def scenes(request, fetched_root):
    return list(islice(request.param.scenes(fetched_root), SCENES))


def _masks(scene):
    return [mask_util.decode(annotation["segmentation"]) for annotation in scene.annotations]


def test_splits_are_balanced_and_share_no_digit(digits):
    for split, count in (("train", 400), ("val", 100)):
        images, labels = digits[split]
        assert images.shape == (10 * count, 28, 28)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [count] * 10
    train, val = ({image.tobytes() for image in digits[split][0]} for split in ("train", "val"))
    assert len(train | val) == 5000


def test_unknown_split():
    with pytest.raises(ValueError, match="'test'"):
        load_digits("test")


def test_photographs_are_split():
    names = digit_scenes.PHOTOGRAPH_NAMES
    assert not set(names["train"]) & set(names["val"])


def test_scenes_are_the_same_every_time(scenes, request, fetched_root):
    dataset = request.node.callspec.params["scenes"]
    for first, second in zip(scenes, dataset.scenes(fetched_root), strict=False):
        assert np.array_equal(first.image, second.image)
        assert first.annotations == second.annotations


def test_boxes_are_tight_around_masks(scenes):
    for scene in scenes:
        assert scene.annotations
        for annotation, mask in zip(scene.annotations, _masks(scene), strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y, width, height = annotation["bbox"]
            assert (x, x + width - 1) == (columns[0], columns[-1])
            assert (y, y + height - 1) == (rows[0], rows[-1])
            assert annotation["area"] == mask.sum()


def test_digits_do_not_overlap(scenes):
    for scene in scenes:
        assert np.sum(_masks(scene), axis=0).max() == 1


@pytest.mark.parametrize("dataset", DATASETS[:2], ids=lambda dataset: dataset.name)
def test_digits_stand_out_from_plain_backgrounds(dataset, fetched_root):
    for scene in islice(dataset.scenes(fetched_root), SCENES):
        luma = scene.image @ np.array([0.299, 0.587, 0.114])
        background = luma[np.sum(_masks(scene), axis=0) == 0]
        for mask in _masks(scene):
            assert abs(np.median(luma[mask == 1]) - np.median(background)) > 40


def test_val_scenes_hold_val_digits_alone(fetched_root, digits):
    """Every mask is found again among the resized digits of val, and none among those of train."""
    for scene in islice(DATASETS[1].scenes(fetched_root), 10):
        for annotation, mask in zip(scene.annotations, _masks(scene), strict=True):
            x, y, width, height = annotation["bbox"]
            shape = mask[y : y + height, x : x + width]
            assert _is_among(shape, annotation["category_id"] - 1, digits["val"])
            assert not _is_among(shape, annotation["category_id"] - 1, digits["train"])


def _is_among(shape, label, digits):
    images, labels = digits
    # Cropping to the mask may take a pixel or two off the drawn size.
    sizes = range(max(shape.shape), max(shape.shape) + 4)
    for image in images[labels == label]:
        for size in sizes:
            mask = digit_scenes.resize_ink(image, size) >= digit_scenes.MASK_THRESHOLD
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            if np.array_equal(tight, shape):
                return True
    return False
