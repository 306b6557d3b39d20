"""Training moves every pooling with parameters, and can only move it towards the average."""

import numpy as np
import pytest

from softpool_det.similarity.photographs import Photograph, check_sizes
from softpool_det.similarity.poolings import POOLINGS
from softpool_det.similarity.training import CROPS, TrainingTask, train, training_crops

TRAINED = [pooling.key for pooling in POOLINGS if pooling.is_trained]


@pytest.fixture(scope="module")
def crops(pictures):
    arrays = (np.asarray(picture).transpose(2, 0, 1) for picture in pictures.values())
    return np.stack([array[:, :40, start : start + 40] for array in arrays for start in (0, 20)])


def test_which_poolings_are_trained():
    assert {
        "lp",
        "mixed",
        "gated",
        "dpp",
        "litedpp",
        "lites3dpp",
        "lip",
        "ada",
        "softpool-beta",
    } == {*TRAINED}


@pytest.mark.parametrize("key", TRAINED)
def test_training(crops, key):
    first, again = (train(TrainingTask(key, 2, 3, 30, crops)) for _ in range(2))
    assert first.record == again.record
    record = first.record
    # The average is the best of all: LIP starts there, the others come nearer.
    assert record["mse_after"] >= record["mse_of_average"] * (1 - 1e-5)
    if key != "lip":
        assert record["mse_of_average"] < record["mse_after"] < record["mse_before"]


def test_crops(folder):
    photographs = [Photograph(path.name, path) for path in sorted(folder.iterdir())]
    sizes = check_sizes(photographs, [2])
    crops = training_crops(photographs, sizes, 0)
    # The shortest side of the two pictures.
    assert crops.shape == (CROPS, 3, 73, 73)
    assert np.array_equal(crops, training_crops(photographs, sizes, 0))
    assert not np.array_equal(crops, training_crops(photographs, sizes, 1))
