"""Files as strangers write them: what is read, and how a wrong one is told."""

from __future__ import annotations

import copy
import gzip
import json
import math

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from scenes import masks_alike, pycocotools_evaluation, scene

from softpool_det.coco import entries
from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.error_types import tide_errors
from softpool_det.statistics.matches import match


@pytest.fixture
def files(tmp_path):
    """A function: writes ground truth and detections, returns their paths."""

    def write(truth, found):
        for name, data in (("gt", truth), ("results", found)):
            text = data if isinstance(data, str) else json.dumps(data)
            (tmp_path / f"{name}.json").write_text(text)
        return tmp_path / "gt.json", tmp_path / "results.json"

    return write


def read(paths):
    ground_truth = read_ground_truth(paths[0])
    return ground_truth, read_detections(paths[1], ground_truth)


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


def changed(entries: list[dict], index: int, **values) -> list[dict]:
    entries = copy.deepcopy(entries)
    entries[index].update(values)
    return entries


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
            "entry 1 .*image_id is 1.18.*e.21, must be the id of an image",
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


# Run lengths of a mask of 160x160 pixels without any object.
WHOLE = mask_utils.encode(np.zeros((160, 160), dtype=np.uint8, order="F"))["counts"].decode()


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


def with_annotation(truth: dict, **values) -> dict:
    return {**truth, "annotations": changed(truth["annotations"], 1, **values)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [], "is a JSON object, not a list"),
        (lambda t: {**t, "annotations": []}, "there are no annotations"),
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


def test_files_may_be_gzipped(files):
    truth, found = scene(0)
    paths = files(truth, found)
    plain = read(paths)
    for path in paths:
        path.write_bytes(gzip.compress(path.read_bytes()))
    packed = read(paths)
    for before, after in zip(plain, packed, strict=True):
        np.testing.assert_equal(vars(after), vars(before))


def test_gzip_data_that_cannot_be_taken_are_refused(files, monkeypatch):
    truth, found = scene(0)
    paths = files(truth, found)
    data = gzip.compress(paths[1].read_bytes())
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 255
    ground_truth = read_ground_truth(paths[0])
    for content in (data[:-20], bytes(damaged), data[:11]):
        paths[1].write_bytes(content)
        with pytest.raises(ValueError, match=r"results.json: not a JSON file: damaged gzip data"):
            read_detections(paths[1], ground_truth)
    paths[1].write_bytes(data)
    monkeypatch.setattr(entries, "MAX_UNPACKED", 1000)
    with pytest.raises(ValueError, match="it unpacks to more than"):
        read_detections(paths[1], ground_truth)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff", "a zip archive; unpack it"),
        (b'[{"image_id": "\xe9"}]', r"not valid UTF-8 \(byte 15\)"),
    ],
)
def test_bytes_that_are_not_text_are_named(files, content, message):
    paths = files(*scene(0))
    paths[1].write_bytes(content)
    with pytest.raises(ValueError, match=f"results.json: not a JSON file: {message}"):
        read_detections(paths[1], read_ground_truth(paths[0]))


def test_a_task_without_data_is_refused(files):
    ground_truth, detections = read(files(*scene(0)))
    with pytest.raises(ValueError, match="have no 'segmentation'"):
        match(ground_truth, detections, "segm")
    with pytest.raises(ValueError, match="task='keypoints', must be one of bbox, segm"):
        match(ground_truth, detections, "keypoints")
