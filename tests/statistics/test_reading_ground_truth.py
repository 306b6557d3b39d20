"""Ground truths as strangers write them: what is read, and how a wrong one is reported."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import scene
from strange_files import WHOLE, changed, with_annotation

from softpool_det.coco.reading import read_ground_truth


def test_a_broken_mask_of_the_ground_truth_is_told_by_its_annotation(files):
    truth, found = scene(0, masks=True)
    cut = {"size": [160, 160], "counts": WHOLE[:-1]}
    paths = files(with_annotation(truth, segmentation=cut), found)
    number = truth["annotations"][1]["id"]
    with pytest.raises(ValueError, match=f"gt.json: annotation {number}: segmentation.counts is"):
        _ = read_ground_truth(paths[0]).masks


def test_classes_of_one_name_are_told_apart(files):
    truth, found = scene(0)
    ids = sorted(category["id"] for category in truth["categories"])
    for category, number, name in zip(truth["categories"], ids, ("a", "b", "a"), strict=True):
        category.update(id=number, name=name)
    names = read_ground_truth(files(truth, found)[0]).category_names
    assert names == (f"a ({ids[0]})", "b", f"a ({ids[2]})")
    # A name that is what another one becomes.
    truth["categories"][1]["name"] = f"a ({ids[0]})"
    names = read_ground_truth(files(truth, found)[0]).category_names
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [], "is a JSON object, not a list"),
        (lambda t: {**t, "annotations": []}, "the list 'annotations' is empty"),
        (lambda t: {"images": t["images"]}, "the list 'categories' is missing"),
        (
            lambda t: with_annotation(t, id=1),
            "entry 1 of annotations .id 1, .* before it has the same id",
        ),
        (
            lambda t: with_annotation(t, image_id=1),
            "entry 1 .*image_id is 1, must be the id of an image in this file",
        ),
        (
            lambda t: with_annotation(t, category_id=2),
            "entry 1 .*category_id is 2, must be one of the 3 category ids",
        ),
        (lambda t: with_annotation(t, area="9"), "entry 1 .*area is '9', must be a finite number"),
        (
            lambda t: with_annotation(t, area=None, segmentation=[1, 2, 3, 4, 5, 6]),
            "entry 1 of annotations .*segmentation is .* must be polygons",
        ),
        (
            lambda t: with_annotation(t, area=None, segmentation=[[1, 2, 3, 4, 5, "6"]]),
            "entry 1 of annotations .*segmentation is .* must be polygons",
        ),
        (
            lambda t: {**t, "images": changed(t["images"], 2, height="160")},
            "entry 2 of images .*height is '160', must be a whole number",
        ),
        (
            lambda t: {**t, "images": t["images"] * 2},
            "entry 8 of images .*before it has the same id",
        ),
    ],
)
def test_a_wrong_ground_truth_is_told_by_file_and_entry(files, change, message):
    truth, found = scene(0)
    with pytest.raises(ValueError, match=f"gt.json: .*{message}"):
        read_ground_truth(files(change(truth), found)[0])


def test_areas_that_are_missing_are_those_of_masks_or_boxes(files):
    square = [[10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0]]
    truth, found = scene(0, masks=True)
    plain, _ = scene(0)
    truth["annotations"][0]["segmentation"] = square
    truth["annotations"][0]["area"] = 1600
    expected = read_ground_truth(files(truth, found)[0]).areas
    for annotation in truth["annotations"]:
        del annotation["area"]
    read_back = read_ground_truth(files(truth, found)[0])
    np.testing.assert_array_equal(read_back.areas, expected)
    assert read_back.computed_areas == len(expected)
    expected = read_ground_truth(files(plain, found)[0]).areas
    plain["annotations"][0]["area"] = plain["annotations"][2]["area"] = None
    read_back = read_ground_truth(files(plain, found)[0])
    np.testing.assert_array_equal(read_back.areas, expected)
    assert read_back.computed_areas == 2
