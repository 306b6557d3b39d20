from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.matches import Matches, match

# The helpers of this folder.
sys.path.insert(0, str(Path(__file__).parent))

# numba compiles in the first example.
settings.register_profile("numba", deadline=None)
settings.load_profile("numba")


def matches_of(
    folder: Path, truth: dict, found: list[dict], task: str = "bbox", file_order: bool = True
) -> Matches:
    """By way of files, as everything starts from them; in pycocotools' order of equal scores."""
    for name, data in (("gt", truth), ("results", found)):
        (folder / f"{name}.json").write_text(json.dumps(data))
    ground_truth = read_ground_truth(folder / "gt.json")
    detections = read_detections(folder / "results.json", ground_truth)
    return match(ground_truth, detections, task, file_order=file_order)


@pytest.fixture(scope="session")
def matched(tmp_path_factory):
    """A function: see :func:`matches_of`, without the folder."""
    folder = tmp_path_factory.mktemp("matched")
    return lambda *arguments, **options: matches_of(folder, *arguments, **options)


@pytest.fixture
def files(tmp_path):
    """A function: writes ground truth and detections, returns their paths."""

    def write(truth, found):
        for name, data in (("gt", truth), ("results", found)):
            text = data if isinstance(data, str) else json.dumps(data)
            (tmp_path / f"{name}.json").write_text(text)
        return tmp_path / "gt.json", tmp_path / "results.json"

    return write
