"""Ids of images, annotations and categories: numbers or text, not both."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scenes import pycocotools_evaluation, scene
from strange_files import changed, read

from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.error_types import tide_errors
from softpool_det.statistics.matches import match


def with_text_ids(truth: dict, found: list[dict]) -> tuple[dict, list[dict]]:
    truth, found = copy.deepcopy((truth, found))
    for image in truth["images"]:
        image["id"] = f"picture {image['id']}.jpg"
    for entry in truth["annotations"] + found:
        entry["image_id"] = f"picture {entry['image_id']}.jpg"
    return truth, found


def test_ids_of_images_may_be_text_as_in_pycocotools(files):
    truth, found = with_text_ids(*scene(0, images=12))
    evaluation = evaluate(match(*read(files(truth, found)), "bbox"))
    reference = pycocotools_evaluation(truth, found)
    np.testing.assert_array_equal(evaluation.precision, reference.eval["precision"][..., -1])


def test_an_empty_result_file_goes_with_text_ids(files):
    truth, _ = with_text_ids(*scene(0))
    assert len(read(files(truth, []))[1].image) == 0


@pytest.mark.parametrize("number", [lambda n: n - 1, "annotation {}".format])
def test_ids_of_annotations_may_be_text_or_0(files, number):
    """pycocotools would count an object of id 0 as missed."""
    truth, found = scene(0, images=12)
    expected = evaluate(match(*read(files(truth, found)), "bbox")).metrics()
    for annotation in truth["annotations"]:
        annotation["id"] = number(annotation["id"])
    assert evaluate(match(*read(files(truth, found)), "bbox")).metrics() == expected


def test_ids_of_categories_may_be_text(files):
    truth, found = scene(0, images=12, masks=True)
    expected = evaluate(match(*read(files(truth, found)), "bbox"))
    for entry in (*truth["annotations"], *found):
        entry["category_id"] = f"class {entry['category_id']}"
    for category in truth["categories"]:
        category |= {"id": f"class {category['id']}", "name": "same"}
    ground_truth, detections = read(files(truth, found))
    matches = match(ground_truth, detections, "bbox")
    np.testing.assert_array_equal(evaluate(matches).precision, expected.precision)
    assert ground_truth.category_names[0] == "same (class 1)"
    assert tide_errors(ground_truth, detections, matches, "bbox").counts["Miss"] >= 0


def test_ids_of_two_kinds_are_refused(files):
    truth, found = scene(0)
    texts, text_found = with_text_ids(truth, found)
    for index in (0, 2):
        with pytest.raises(
            ValueError, match=rf"entry {index} of .*: image_id is 3, .* there are text"
        ):
            read(files(texts, changed(text_found, index, image_id=3)))
    with pytest.raises(ValueError, match=r"entry 0 of .*: image_id is 'picture .* are numbers"):
        read(files(truth, text_found))
    texts["images"][1]["id"] = 7
    with pytest.raises(
        ValueError, match=r"entry 1 of images .*: id is 7, must be a text, as the first id"
    ):
        read(files(texts, text_found))
