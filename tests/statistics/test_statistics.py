"""From files to the schema of comparison.json."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scenes import pycocotools_evaluation, scene
from test_precision import reference_metrics

from softpool_det.coco.protocol import METRICS
from softpool_det.statistics import compare_results

FIGURES = {"value", "by_seed", "low", "high", "standard_error"}
DIFFERENCE = FIGURES | {"image_standard_error", "seed_standard_error", "p_better"}
DIFFERENCE |= {"own_standard_error"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ground truth and four runs of one made-up scene, as data and as files."""
    folder = tmp_path_factory.mktemp("files")
    truth, _ = scene(0, images=12, masks=True)
    runs = [scene(0, images=12, masks=True, scores=None)[1]]
    rng = np.random.default_rng(0)
    for _ in range(3):
        runs.append([{**e, "score": float(rng.random())} for e in runs[0] if rng.random() < 0.8])
    paths = {"gt": folder / "gt.json"}
    paths["gt"].write_text(json.dumps(truth))
    for n, found in enumerate(runs):
        paths[n] = folder / f"{n}.json"
        paths[n].write_text(json.dumps(found))
    return truth, runs, paths


@pytest.fixture(scope="module")
def compared(made):
    _, _, paths = made
    return compare_results(
        paths["gt"],
        {"stock": [paths[0], paths[1]], "SoftPool": [paths[2], paths[3]]},
        seeds=[7, 8],
        resamples=20,
        permutations=20,
        progress=False,
    )


def test_has_the_keys_of_the_schema(made, compared):
    truth, _, _ = made
    assert compared["names"] == ["stock", "SoftPool"]
    assert compared["seeds"] == [7, 8]
    assert compared["images"] == 12
    assert compared["objects"] == sum(not a["iscrowd"] for a in truth["annotations"])
    assert compared["categories"] == ["class 0", "class 1", "class 2"]
    assert list(compared["tasks"]) == ["bbox", "segm"]
    for task in compared["tasks"].values():
        for name in compared["names"]:
            assert tuple(task["metrics"][name]) == METRICS
            assert set(task["metrics"][name]["AP"]) == FIGURES
            assert list(task["per_class"][name]) == compared["categories"]
        (difference,) = task["differences"]
        assert (difference["baseline"], difference["candidate"]) == ("stock", "SoftPool")
        assert set(difference["metrics"]["AP"]) == DIFFERENCE | {"p_value"}
        assert set(difference["per_class"]["class 0"]) == DIFFERENCE
        assert "12 images, 2 seeds" in difference["verdict"]


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_values_are_pycocotools_to_the_last_digit(made, compared, task):
    truth, runs, _ = made
    expected = [100 * reference_metrics(pycocotools_evaluation(truth, r, task).stats) for r in runs]
    for m, metric in enumerate(METRICS):
        figures = compared["tasks"][task]["metrics"]
        found = [*figures["stock"][metric]["by_seed"], *figures["SoftPool"][metric]["by_seed"]]
        np.testing.assert_array_equal(found, [values[m] for values in expected])
        difference = compared["tasks"][task]["differences"][0]["metrics"][metric]
        mean = np.mean([expected[2][m] - expected[0][m], expected[3][m] - expected[1][m]])
        assert difference["value"] == pytest.approx(mean, abs=1e-9, nan_ok=True)


def test_one_seed_and_three_arms(made):
    _, _, paths = made
    data = compare_results(
        str(paths["gt"]),
        {"a": [paths[0]], "b": [paths[1]], "c": [paths[2]]},
        resamples=5,
        permutations=5,
        progress=False,
    )
    assert data["seeds"] == [1]
    differences = data["tasks"]["bbox"]["differences"]
    assert [d["candidate"] for d in differences] == ["b", "c"]
    for difference in differences:
        ap = difference["metrics"]["AP"]
        assert ap["simultaneous_low"] <= ap["low"] <= ap["high"] <= ap["simultaneous_high"]
        assert ap["p_value"] <= ap["p_value_holm"] <= 2 * ap["p_value"]
        assert difference["decision"] == "undecided"
        assert difference["power"] == []
        assert difference["metrics"]["AP"]["seed_standard_error"] is None
        assert "differences between training runs were not seen" in difference["verdict"]


def test_files_with_boxes_alone_are_compared_by_boxes(made, tmp_path):
    _, runs, paths = made
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps([{k: v for k, v in e.items() if k != "segmentation"} for e in runs[0]])
    )
    arguments = {"resamples": 2, "permutations": 2, "progress": False}
    data = compare_results(paths["gt"], {"a": [paths[1]], "b": [boxes]}, **arguments)
    assert list(data["tasks"]) == ["bbox"]
    masks = tmp_path / "masks.json"
    masks.write_text(json.dumps([{k: v for k, v in e.items() if k != "bbox"} for e in runs[0]]))
    with pytest.raises(ValueError, match=r"masks.json: has segm only"):
        compare_results(paths["gt"], {"a": [boxes], "b": [masks]}, **arguments)


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        ({"a": [0]}, None, r"names 1 arm\(s\)"),
        ({"a": [0], "b": [1, 2]}, None, "each arm needs one for each seed"),
        ({"a": [], "b": []}, None, "each arm needs one for each seed"),
        ({"a": [0], "b": [1]}, [1, 2], r"seeds=\[1, 2\], but each arm has 1"),
    ],
)
def test_arms_must_go_together(made, arms, seeds, message):
    _, _, paths = made
    results = {name: [paths[n] for n in numbers] for name, numbers in arms.items()}
    with pytest.raises(ValueError, match=message):
        compare_results(paths["gt"], results, seeds=seeds, progress=False)
