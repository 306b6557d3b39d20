"""Equal scores: no figure depends on the order of the file, and the report says what order does."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scenes import pycocotools_evaluation, scene

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics import compare_results
from softpool_det.statistics.matches import match
from softpool_det.statistics.ties import tie_effects

ARGUMENTS = {"resamples": 20, "permutations": 20, "progress": False}


def write(folder, **files):
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data))


def shuffled(found: list[dict], seed: int) -> list[dict]:
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def without_file_order(data: dict) -> dict:
    """A comparison without what speaks of the file's order, and with NaN as text."""
    for task in data["tasks"].values():
        for ties in task["ties"].values():
            del ties["file_order"]
    del data["remarks"]
    return json.loads(json.dumps(data))


@hypothesis_settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    scores=st.sampled_from([1, 3, 20]),
    detections=st.sampled_from([8, 25]),
    masks=st.booleans(),
)
def test_no_figure_depends_on_the_order_of_the_file(
    tmp_path_factory, seed, scores, detections, masks
):
    folder = tmp_path_factory.mktemp("order")
    truth, first = scene(seed, scores=scores, detections=detections, masks=masks)
    _, second = scene(seed + 1, scores=scores, detections=detections, masks=masks)
    assume(truth["annotations"] and first and second)
    write(folder, gt=truth, a=first, b=second, c=shuffled(first, seed), d=shuffled(second, seed))
    pairs = [[folder / f"{x}.json", folder / f"{y}.json"] for x, y in ("ab", "cd")]
    before, after = (
        compare_results(folder / "gt.json", {"one": [x], "two": [y]}, **ARGUMENTS) for x, y in pairs
    )
    assert str(without_file_order(before)) == str(without_file_order(after))


def test_one_detector_in_two_orders_does_not_differ(tmp_path):
    """All scores 1 and half of the boxes wrong: pycocotools' AP depends on which come first."""
    truth, wrong = scene(4, images=30, scores=1, crowds=0)
    keys = ("image_id", "category_id", "bbox")
    right = [{key: a[key] for key in keys} | {"score": 1.0} for a in truth["annotations"]]
    wrong = [{**entry, "score": 1.0} for entry in wrong[: len(right)]]
    write(tmp_path, gt=truth, first=right + wrong, last=wrong + right)
    paths = {name: [tmp_path / f"{name}.json"] for name in ("first", "last")}
    data = compare_results(tmp_path / "gt.json", paths, **ARGUMENTS)
    results = data["tasks"]["bbox"]
    (difference,) = results["differences"]
    for entry in difference["metrics"].values():
        if not np.isnan(entry["value"]):
            assert (entry["value"], entry["low"], entry["high"]) == (0, 0, 0)
            assert (entry["p_value"], entry["p_better"]) == (1, 0.5)
    assert difference["verdict"].startswith("No difference is shown")
    ties = results["ties"]
    for name, found in (("first", right + wrong), ("last", wrong + right)):
        reference = 100 * pycocotools_evaluation(truth, found).stats[0]
        assert ties[name]["file_order"] == pytest.approx(reference, abs=1e-9)
    assert ties["first"]["file_order"] > ties["last"]["file_order"] + 1
    assert len(data["remarks"]) == 2
    assert data["remarks"][0].startswith("first: 100 % of its boxes have the same score as another")


def test_least_and_most_are_those_of_all_orders_where_none_changes_what_is_found(tmp_path):
    """Brute force: all orders of five equal scores, through pycocotools."""
    entry = {"image_id": 1, "category_id": 1}
    places = [[10.0, 10.0, 30.0, 30.0], [60.0, 60.0, 30.0, 30.0], [110.0, 10.0, 30.0, 30.0]]
    truth = {
        "images": [{"id": 1, "height": 160, "width": 160}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {**entry, "id": n, "bbox": box, "area": 900, "iscrowd": 0}
            for n, box in enumerate(places, 1)
        ],
    }
    boxes = [places[0], [*places[1][:3], 24.0], [0.0, 100.0, 9.0, 9.0], [120.0, 120.0, 9.0, 9.0]]
    found = [{**entry, "bbox": box, "score": 0.5} for box in boxes]
    found.append({**entry, "bbox": places[2], "score": 0.2})
    orders = [
        100 * pycocotools_evaluation(truth, list(order)).stats[0]
        for order in itertools.permutations(found)
    ]
    write(tmp_path, gt=truth, found=found)
    read = read_ground_truth(tmp_path / "gt.json")
    detections = read_detections(tmp_path / "found.json", read)
    effects = tie_effects(read, [detections], [match(read, detections, "bbox")], "bbox")
    assert effects["share"] == 0.8
    assert effects["least"] == pytest.approx(min(orders), abs=1e-9)
    assert effects["most"] == pytest.approx(max(orders), abs=1e-9)
    assert effects["file_order"] == pytest.approx(orders[0], abs=1e-9)


def test_order_may_decide_what_is_found(tmp_path):
    """The first detection fits both objects: if it comes second, it takes the other one."""
    places = [[10.0, 10.0, 40.0, 40.0], [24.0, 10.0, 40.0, 40.0]]
    entry = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1, "height": 160, "width": 160}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {**entry, "id": n, "bbox": box, "area": 1600, "iscrowd": 0}
            for n, box in enumerate(places, 1)
        ],
    }
    boxes = [[14.0, 10.0, 40.0, 40.0], [10.0, 10.0, 40.0, 36.0]]
    found = [{**entry, "bbox": box, "score": 0.5} for box in boxes]
    rows = []
    for order in (found, found[::-1]):
        write(tmp_path, gt=truth, found=order)
        read = read_ground_truth(tmp_path / "gt.json")
        detections = read_detections(tmp_path / "found.json", read)
        effects = tie_effects(read, [detections], [match(read, detections, "bbox")], "bbox")
        reference = 100 * pycocotools_evaluation(truth, order).stats[0]
        assert effects.pop("file_order") == pytest.approx(reference, abs=1e-9)
        rows.append((effects, reference))
    assert rows[0][0] == rows[1][0]
    assert rows[0][1] != rows[1][1]


def test_without_ties_there_is_nothing_to_say(tmp_path):
    truth, found = scene(2, masks=True)
    write(tmp_path, gt=truth, a=found, b=found[::2])
    paths = {name: [tmp_path / f"{name}.json"] for name in "ab"}
    data = compare_results(tmp_path / "gt.json", paths, **ARGUMENTS)
    for task in ("bbox", "segm"):
        results = data["tasks"][task]
        for name, entries in (("a", found), ("b", found[::2])):
            reference = 100 * pycocotools_evaluation(truth, entries, task).stats[0]
            value = results["metrics"][name]["AP"]["value"]
            assert value == pytest.approx(reference, abs=1e-9)
            ties = results["ties"][name]
            assert ties == {"share": 0, "least": value, "most": value, "file_order": value}
    assert not any("the same score" in remark for remark in data["remarks"])


def test_which_of_more_than_100_equal_scores_count_does_not_depend_on_the_file(matched):
    truth, found = scene(1, images=2, categories=1, objects=30, detections=400, scores=1)
    kept = [
        {(found[i]["image_id"], *found[i]["bbox"]) for i in run.entry}
        for found in (found, found[::-1])
        for run in [matched(truth, found, file_order=False)]
    ]
    assert max(sum(e["image_id"] == i["id"] for e in found) for i in truth["images"]) > 100
    assert kept[0] == kept[1]
