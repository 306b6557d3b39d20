"""What is said of files that may not mean what they seem to."""

from __future__ import annotations

import copy
import json

import pytest
from scenes import scene

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.remarks import file_remarks


@pytest.fixture
def remarks(tmp_path):
    """A function: ground truth and detections -> remarks."""

    def of(truth, found):
        (tmp_path / "gt.json").write_text(json.dumps(truth))
        (tmp_path / "found.json").write_text(json.dumps(found))
        ground_truth = read_ground_truth(tmp_path / "gt.json")
        detections = read_detections(tmp_path / "found.json", ground_truth)
        return file_remarks(ground_truth, {"arm": [detections]})

    return of


def full_scene(images=40):
    """Every image has a detection."""
    truth, found = scene(0, images=images, objects=10, detections=20)
    seen = {entry["image_id"] for entry in found}
    empty = [image["id"] for image in truth["images"] if image["id"] not in seen]
    return truth, found + [{**found[0], "image_id": number} for number in empty]


def test_images_without_objects_need_no_detections(remarks):
    truth, found = full_scene()
    full = {annotation["image_id"] for annotation in truth["annotations"]}
    assert len(full) < len(truth["images"])
    assert remarks(truth, [entry for entry in found if entry["image_id"] in full]) == []


def changed_boxes(entries, change):
    entries = copy.deepcopy(entries)
    for entry in entries:
        entry["bbox"] = change(*entry["bbox"])
    return entries


def test_usual_files_need_no_remark(remarks):
    assert remarks(*full_scene()) == []


def test_images_without_detections_are_counted(remarks):
    truth, found = full_scene(12)
    seen = {image["id"] for image in truth["images"][:6]}
    (remark,) = remarks(truth, [entry for entry in found if entry["image_id"] in seen])
    assert "found.json has no detections in 6 of the 12 images with objects" in remark
    assert remarks(truth, []) == []


def test_boxes_as_corners_are_recognised(remarks):
    truth, found = full_scene()
    corners = changed_boxes(found, lambda x, y, w, h: [x, y, x + w, y + h])
    (remark,) = remarks(truth, corners)
    assert "found.json: " in remark
    assert "of its boxes extend beyond their image. They look like [x1, y1, x2, y2]" in remark
    truth["annotations"] = changed_boxes(
        truth["annotations"], lambda x, y, w, h: [x, y, x + w, y + h]
    )
    (remark,) = remarks(truth, found)
    assert "gt.json: " in remark


def test_boxes_of_resized_images_are_recognised(remarks):
    truth, found = full_scene()
    (remark,) = remarks(truth, changed_boxes(found, lambda *box: [4 * side for side in box]))
    assert "They may belong to resized or different images" in remark


def test_sizes_that_are_not_known_tell_nothing(remarks):
    truth, found = full_scene()
    for image in truth["images"]:
        image["height"] = None
    assert remarks(truth, changed_boxes(found, lambda *box: [4 * side for side in box])) == []


def test_areas_that_the_file_lacks_are_counted(remarks):
    truth, found = full_scene()
    del truth["annotations"][1]["area"]
    truth["annotations"][2]["area"] = None
    (remark,) = remarks(truth, found)
    assert f"2 of {len(truth['annotations'])} annotations have no area" in remark
