from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from softpool_det.evaluation.matches import Matches, match
from softpool_det.evaluation.results import read_detections, read_ground_truth

# The helpers of this folder.
sys.path.insert(0, str(Path(__file__).parent))

# numba compiles in the first example.
settings.register_profile("numba", deadline=None)
settings.load_profile("numba")


def matches_of(folder: Path, truth: dict, found: list[dict], task: str = "bbox") -> Matches:
    """By way of files, as everything starts from them."""
    for name, data in (("gt", truth), ("results", found)):
        (folder / f"{name}.json").write_text(json.dumps(data))
    ground_truth = read_ground_truth(folder / "gt.json")
    return match(ground_truth, read_detections(folder / "results.json", ground_truth), task)


@pytest.fixture(scope="session")
def matched(tmp_path_factory):
    """A function: ground truth and detections -> Matches."""
    folder = tmp_path_factory.mktemp("matched")
    return lambda truth, found, task="bbox": matches_of(folder, truth, found, task)
