"""Result files as strangers write them: what is read, and how a wrong one is reported."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import masks_alike, scene
from strange_files import WHOLE, changed, read

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.io.data_errors import DataError
from softpool_det.statistics.matches import match


def test_reads_what_is_there(files):
    truth, found = scene(0, masks=True)
    ground_truth, detections = read(files(truth, found))
    ids = sorted(image["id"] for image in truth["images"])
    assert ground_truth.image_ids.tolist() == ids
    assert ground_truth.category_names == ("class 0", "class 1", "class 2")
    assert detections.tasks == ("bbox", "segm")
    for n, entry in enumerate(found):
        assert ground_truth.image_ids[detections.image[n]] == entry["image_id"]
        assert ground_truth.category_ids[detections.category[n]] == entry["category_id"]
        assert detections.score[n] == entry["score"]
        assert detections.boxes[n].tolist() == entry["bbox"]
    by_id = {annotation["id"]: annotation for annotation in truth["annotations"]}
    for g, number in enumerate(ground_truth.object_ids.tolist()):
        assert ground_truth.areas[g] == by_id[number]["area"]
        assert ground_truth.crowd[g] == by_id[number]["iscrowd"]


def test_objects_and_detections_keep_their_places_in_the_files(matched):
    truth, found = scene(5, images=20, scores=5)
    matches = matched(truth, found)
    for d, n in enumerate(matches.entry.tolist()):
        assert found[n]["score"] == matches.score[d]
        assert found[n]["image_id"] == matches.image_ids[matches.image[d]]
        assert found[n]["category_id"] == matches.category_ids[matches.category[d]]
    by_id = {annotation["id"]: annotation for annotation in truth["annotations"]}
    crowds = [by_id[number]["iscrowd"] for number in matches.object_ids.tolist()]
    np.testing.assert_array_equal(matches.object_ignored[0], crowds)
    taken = matches.matched[matches.state[0] == 1]
    assert taken.size
    assert all(not by_id[number]["iscrowd"] for number in taken.tolist())


def test_polygons_and_uncompressed_masks_are_as_in_pycocotools(files):
    square = [[10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0]]
    runs = {"size": [40, 40], "counts": [100, 300, 1200]}
    truth = {
        "images": [{"id": 1, "height": 80, "width": 90}, {"id": 2, "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 1, "segmentation": square},
            {"id": 8, "image_id": 2, "category_id": 1, "segmentation": runs, "iscrowd": 1},
        ],
    }
    for annotation in truth["annotations"]:
        annotation |= {"bbox": [10, 10, 40, 40], "area": 1600}
    found = [{"image_id": 2, "category_id": 1, "score": 1, "segmentation": runs}]
    paths = files(truth, found)
    assert masks_alike(read_ground_truth(paths[0]).masks, truth)
    ground_truth, detections = read(paths)
    assert match(ground_truth, detections, "segm").state[0, 0].tolist() == [0]


def without(entries: list[dict], index: int, key: str) -> list[dict]:
    entries = copy.deepcopy(entries)
    del entries[index][key]
    return entries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: "[{", "not a JSON file"),
        (lambda e: {"images": []}, r"a list of detections.*an object \(a ground-truth file\?\)"),
        (lambda e: 3, "a list of detections, this is int"),
        (lambda e: [*e[:2], 7], "entry 2 of detections is 7, must be an object"),
        (
            lambda e: changed(e, 1, image_id=4),
            "entry 1 .*image_id is 4, must be the id of an image in the ground truth",
        ),
        (
            lambda e: changed(e, 1, image_id="13"),
            "entry 1 .*image_id is '13', must be .*; ids there are numbers",
        ),
        (
            lambda e: changed(e, 2, category_id=9),
            "entry 2 .*category_id is 9, must be one of the 3 category ids",
        ),
        (lambda e: without(e, 3, "score"), "entry 3 .*score is missing, must be a finite number"),
        (lambda e: changed(e, 3, score=None), "entry 3 .*score is None, must be a finite number"),
        (lambda e: changed(e, 3, score="0.5"), "entry 3 .*score is '0.5', must be a finite number"),
        (
            lambda e: changed(e, 3, score=math.nan),
            "entry 3 .*score is nan, must be a finite number",
        ),
        (lambda e: without(e, 0, "bbox"), "entry 0 .*neither 'bbox' nor 'segmentation'"),
        (lambda e: without(e, 4, "bbox"), "entry 4 .*bbox is missing, must be"),
        (
            lambda e: changed(e, 1, image_id=2**70),
            f"entry 1 .*image_id is {2**70}, must be the id of an image",
        ),
        (
            lambda e: changed(e, 1, image_id=1e300),
            "entry 1 .*image_id is 1e.300, must be the id of an image",
        ),
        (
            lambda e: changed(e, 3, score=10**400),
            "entry 3 .*score is 1000.*, must be a finite number",
        ),
        (
            lambda e: changed(e, 4, bbox=[1, 2, 10**400, 3]),
            "entry 4 .*must be .*four finite numbers",
        ),
        (lambda e: "[" * 100_000, "not a JSON file"),
        (lambda e: changed(e, 4, bbox=[1, 2, 3]), r"entry 4 .*must be \[x, y, width, height\]"),
        (
            lambda e: changed(e, 4, bbox=[1, 2, 3, "4"]),
            r"entry 4 .*must be \[x, y, width, height\]",
        ),
        (
            lambda e: changed(e, 4, bbox=[1, 2, -3, 4]),
            "entry 4 .*a width and a height of 0 or more",
        ),
        (
            lambda e: changed(e, 4, bbox=[1, math.inf, 3, 4]),
            "entry 4 .*must be .*four finite numbers",
        ),
    ],
)
def test_a_wrong_result_file_is_told_by_file_and_entry(files, change, message):
    truth, found = scene(0)
    paths = files(truth, change(found))
    ground_truth = read_ground_truth(paths[0])
    with pytest.raises(ValueError, match=f"results.json: .*{message}"):
        read_detections(paths[1], ground_truth)


RIGHT = {"image_id": 2, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}
ABSENT = object()
IDS = [1, 2.0, 3, "1", True, None, [], 2**70, -1, ABSENT]
NUMBERS = [1, -0.0, -3, 1e308, 2**70, 10**400, math.nan, math.inf, "1", True, None, ABSENT]
BOXES = [*([1, 2, 3, number] for number in NUMBERS[:-1]), [5, 0.5, 0, 2], [1, 2, 3], [], ABSENT]
CHANGES = {"image_id": IDS, "category_id": IDS, "score": NUMBERS, "bbox": BOXES}


@given(
    images=st.sampled_from([[1, 2], ["1", "2"]]),
    changes=st.lists(
        st.one_of(
            st.just({}),
            *(st.fixed_dictionaries({k: st.sampled_from(v)}) for k, v in CHANGES.items()),
        ),
        max_size=3,
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_of_boxes_alone_are_read_as_others(files, images, changes):
    """There is a short way for them, which a key that nobody needs closes."""
    truth = {
        "images": [{"id": number, "height": 9, "width": 9} for number in images],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, "image_id": images[0], "category_id": 1, "bbox": [1, 1, 2, 2]}],
    }
    found = []
    for note in ({}, {"note": 1}):
        entries = [{**RIGHT, "image_id": images[1], **change, **note} for change in changes]
        paths = files(truth, [{k: v for k, v in e.items() if v is not ABSENT} for e in entries])
        try:
            # Text, in which -0.0 is not 0.0.
            found.append(repr(vars(read(paths)[1])))
        except DataError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (
            {"size": [9, 160], "counts": "0"},
            r"size is \[9, 160\], must be \[160, 160\], the image's",
        ),
        ({"size": [160, 160]}, "must be a run-length encoding"),
        (
            {"size": [160.0, 160.0], "counts": "0"},
            r"size is \[160.0, 160.0\], must be .*whole pixels",
        ),
        ({"size": [160], "counts": "0"}, r"size is \[160\], must be \[height, width\]"),
        ({"size": [160, 160], "counts": ""}, "is '', must be .* of 160x160 pixels.*do not add up"),
        ({"size": [160, 160], "counts": WHOLE[:1]}, "ends in the middle of a number"),
        ({"size": [160, 160], "counts": "\0" + WHOLE}, "holds a character outside"),
        ({"size": [160, 160], "counts": "é" + WHOLE}, "holds a character outside"),
        ({"size": [160, 160], "counts": [5, 5]}, r"\[5, 5\], must be whole numbers .*160x160"),
        ({"size": [160, 160], "counts": [-1, 25601]}, "whole numbers from 0"),
        ({"size": [160, 160], "counts": [0.5, 25599.5]}, "whole numbers from 0"),
        ([[1, 2, 3, 4, 5, 6]], "must be a run-length encoding, .* polygons are not taken"),
    ],
)
def test_a_wrong_mask_is_told_by_file_and_entry(files, segmentation, message):
    truth, found = scene(0, masks=True)
    paths = files(truth, changed(found, 1, segmentation=segmentation))
    ground_truth = read_ground_truth(paths[0])
    with pytest.raises(ValueError, match=f"results.json: entry 1 of detections .*{message}"):
        read_detections(paths[1], ground_truth)


def test_masks_of_images_without_a_size_are_checked_as_well(files):
    truth, found = scene(0, masks=True)
    for image in truth["images"]:
        del image["height"], image["width"]
    size = {"size": [2**16, 2**16]}
    for counts, message in ((WHOLE, "at most .* pixels"), ([2**32], "at most .* pixels")):
        paths = files(truth, changed(found, 1, segmentation={**size, "counts": counts}))
        with pytest.raises(ValueError, match=f"entry 1 of detections .*{message}"):
            read_detections(paths[1], read_ground_truth(paths[0]))
    cut = {"size": [160, 160], "counts": WHOLE[:-1]}
    paths = files(truth, changed(found, 1, segmentation=cut))
    with pytest.raises(ValueError, match=r"entry 1 of detections .*160x160"):
        read_detections(paths[1], read_ground_truth(paths[0]))


def test_a_task_without_data_is_refused(files):
    ground_truth, detections = read(files(*scene(0)))
    with pytest.raises(ValueError, match="have no 'segmentation'"):
        match(ground_truth, detections, "segm")
    with pytest.raises(ValueError, match="task='keypoints', must be one of bbox, segm"):
        match(ground_truth, detections, "keypoints")
