import os
from dataclasses import replace
from functools import partial

import pytest
import torch

from softpool_det.data import digit_scenes
from softpool_det.data.cache import ensure_made

SMALL = {"digit_scenes_train": 8, "digit_scenes_val": 6}


@pytest.fixture(scope="session")
def small_datasets(tmp_path_factory):
    """A folder for $DETECTRON2_DATASETS in which the digit scenes are few, but real."""
    root = tmp_path_factory.mktemp("datasets")
    for dataset in digit_scenes.DATASETS:
        if dataset.name in SMALL:
            split = dataset.name.rsplit("_", 1)[1]
            scenes = partial(digit_scenes.plain_scenes, split=split, count=SMALL[dataset.name])
            # Programs take the files as they are: the manifest names the digest of the full set.
            ensure_made(replace(dataset, scenes=scenes), root)
    return root


@pytest.fixture(scope="session")
def environment(small_datasets):
    """For the programs: those data sets and the CPU, the same on every machine."""
    return {
        **os.environ,
        "DETECTRON2_DATASETS": str(small_datasets),
        "CUDA_VISIBLE_DEVICES": "",
        # On images this small, threads would mostly wait for each other.
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def one_thread():
    """Models on tiny images: threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
