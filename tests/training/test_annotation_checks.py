"""Annotation files in COCO's format that cannot be right."""

import json
import os
from functools import partial

import pytest
from annotation_files import FAULTS, NAN, annotation, coco, rle
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_utils

from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.training import annotation_checks
from softpool_det.training.annotation_checks import (
    CHECKED_FILE,
    check_evaluation_annotations,
    check_training_annotations,
)


@pytest.mark.parametrize(("changes", "reason"), FAULTS.values(), ids=FAULTS)
def test_fault_is_named(dataset, tmp_path, changes, reason):
    name = dataset(coco(annotation(1), annotation(2, **changes)))
    with pytest.raises(DataError) as evaluating:
        check_evaluation_annotations(name)
    with pytest.raises(DataError) as training:
        check_training_annotations(name, False, Skipped(), tmp_path)
    for error in (evaluating, training):
        text = str(error.value)
        assert "\n" not in text
        number = changes.get("id", 2)
        assert text.startswith(
            f"{tmp_path / 'instances.json'}: entry 1 of annotations (id {number}"
        )
        assert reason in text
    assert "INPUT.SKIP_CORRUPT True leaves such entries out" in str(training.value)


@pytest.mark.parametrize("changes", [c for c, _ in FAULTS.values()], ids=FAULTS)
def test_fault_is_left_out(dataset, tmp_path, changes):
    name = dataset(coco(annotation(1), annotation(2, **changes), annotation(3, category_id=7)))
    skipped = Skipped()
    copy = check_training_annotations(name, True, skipped, tmp_path / "output")
    assert len(skipped.reasons) == 1
    records = DatasetCatalog.get(copy)
    assert [len(record["annotations"]) for record in records] == [2, 0]
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 1]
    metadata = MetadataCatalog.get(copy)
    assert metadata.thing_classes == ["one", "seven"]
    assert metadata.note == "kept"
    assert records[0]["file_name"] == str(tmp_path / "images" / "1.png")


def test_good_file_is_taken_as_it_is(dataset, tmp_path):
    whole = mask_utils.encode(mask_utils.decode(mask_utils.frPyObjects(rle(), 20, 30)))
    name = dataset(
        coco(
            annotation(1),
            annotation(2, segmentation=rle()),
            annotation(3, segmentation={**whole, "counts": whole["counts"].decode()}),
            annotation(4, bbox=[2, 2, 5, 0], segmentation=[[2, 2, 7, 2, 5, 2]]),
            annotation(5, segmentation=[]),
            annotation(6, area=0, iscrowd=1, segmentation=rle()),
            # As exporters write it, and what COCO's other tasks have.
            annotation(7, area=52.5, iscrowd=False, num_keypoints=1, keypoints=[3, 3, 2]),
        ),
    )
    check_evaluation_annotations(name)
    skipped = Skipped()
    assert check_training_annotations(name, True, skipped, tmp_path / "output") == name
    assert not skipped.reasons


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("key", "absent"), [("area", True), ("area", False), ("iscrowd", True)])
def test_what_an_evaluation_fills_in(dataset, tmp_path, key, absent, skip):
    """See test_completion.py; pycocotools would end after the training with a KeyError."""
    incomplete = annotation(2, **{key: None})
    if absent:
        del incomplete[key]
    name = dataset(coco(annotation(1), incomplete))
    skipped = Skipped()
    assert check_training_annotations(name, skip, skipped, tmp_path / "output") == name
    assert not skipped.reasons
    assert [len(record["annotations"]) for record in DatasetCatalog.get(name)] == [2, 0]
    check_evaluation_annotations(name)


MASK_FAULTS = {
    "none": None,
    "empty": [],
    "a line and a polygon": [[2, 2, 9, 2], [2, 2, 9, 2, 5, 9]],
    "a point and a polygon": [[2, 2], [2, 2, 9, 2, 5, 9]],
}


@pytest.mark.parametrize("segmentation", MASK_FAULTS.values(), ids=MASK_FAULTS)
def test_what_only_an_evaluation_of_masks_needs(dataset, segmentation, tmp_path):
    """pycocotools would end after the training with an error of its own."""
    name = dataset(coco(annotation(1), annotation(2, segmentation=segmentation)))
    check_training_annotations(name, False, Skipped(), tmp_path / "output")
    check_evaluation_annotations(name)
    with pytest.raises(DataError, match=r"\(id 2, image_id 1\): .*; AP of masks needs one"):
        check_evaluation_annotations(name, masks=True)


@pytest.mark.parametrize("key", ["images", "categories"])
def test_two_of_one_id(dataset, tmp_path, key):
    """One of the two would vanish, from the training as from AP: an error always."""
    content = coco(annotation(1))
    content[key].append({**content[key][1], "id": 1})
    name = dataset(content)
    checks = [partial(check_training_annotations, name, s, Skipped(), tmp_path) for s in (0, 1)]
    for check in (partial(check_evaluation_annotations, name), *checks):
        with pytest.raises(DataError) as error:
            check()
        assert str(error.value) == (
            f"{tmp_path / 'instances.json'}: entry 2 of {key} (id 1): another entry before it "
            "has the same id"
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not a JSON file: Expecting value: line 1 column 1"),
        (
            '{"images": [\n1, ',
            "not a JSON file: Expecting value: line 2 column 4 (char 16); the file ends too early",
        ),
        ("[]", "the list 'images' is missing"),
        (json.dumps({"images": [{"id": 1, "file_name": "1"}]}), "the list 'categories' is missing"),
        (
            coco(images=[{"id": 1}]),
            "entry 0 of images (id 1): file_name is missing, must be a text",
        ),
        (coco(categories=[3]), "entry 0 of categories is 3, must be an object"),
        (coco(images=[]), "the list 'images' is empty"),
        (
            coco(categories=[{"id": 1}]),
            "entry 0 of categories (id 1): name is missing, must be a text",
        ),
        (
            coco(categories=[{"id": 1, "name": "a"}, {"id": "x", "name": "b"}]),
            "entry 1 of categories (id 'x'): id is 'x', must be a number",
        ),
        (
            coco(categories=[{"id": NAN, "name": "a"}]),
            "entry 0 of categories (id nan): id is nan, must be a number",
        ),
        (
            coco(images=[{"id": 1, "file_name": "1.png", "height": -20, "width": 30}]),
            "entry 0 of images (id 1): height is -20, must be a whole number of pixels",
        ),
        (coco({"bbox": [1, 2, 3, 4]}), "entry 0 of annotations: id is missing, must be a number"),
        ('{"images": [' + "1" * 5000 + "]}", "not a JSON file: Exceeds the limit"),
        ("[" * 100_000, "not a JSON file: maximum recursion depth"),
        ("\ufeff[]", "not a JSON file: starts with a byte order mark; save it as UTF-8 without"),
    ],
)
def test_broken_file(dataset, tmp_path, content, reason):
    name = dataset(content)
    for skip in (True, False):
        with pytest.raises(DataError) as error:
            check_training_annotations(name, skip, Skipped(), tmp_path)
        assert str(error.value).startswith(f"{tmp_path / 'instances.json'}: {reason}")


def test_test_set_without_annotations(dataset, tmp_path):
    content = coco()
    del content["annotations"]
    name = dataset(content)
    check_evaluation_annotations(name)
    with pytest.raises(DataError, match="the list 'annotations' is missing"):
        check_training_annotations(name, True, Skipped(), tmp_path)


def test_other_formats_are_taken_as_they_are(tmp_path):
    DatasetCatalog.register("annotations_test_other", list)
    check_evaluation_annotations("annotations_test_other")
    found = check_training_annotations("annotations_test_other", True, Skipped(), tmp_path)
    assert found == "annotations_test_other"


def test_file_that_is_right_is_read_once(dataset, tmp_path, monkeypatch):
    name, path = dataset(coco(annotation(1))), tmp_path / "instances.json"
    read = []
    plain = annotation_checks.read_annotations
    monkeypatch.setattr(
        annotation_checks, "read_annotations", lambda *a: (read.append(a), plain(*a))[1]
    )

    def check(count, **options):
        check_evaluation_annotations(name, folder=tmp_path, **options)
        assert len(read) == count

    check(1)
    check(1)
    # Other rules, another content, another time, a file that a kill left or a hand changed.
    check(2, masks=True)
    check(2, masks=True)
    assert check_training_annotations(name, False, Skipped(), tmp_path) == name
    check(3)
    path.write_text(json.dumps(coco(annotation(1), annotation(2))))
    check(4)
    os.utime(path, (1, 1))
    check(5)
    (tmp_path / CHECKED_FILE).write_text('{"')
    check(6)
    check(6)
    # What is wrong is listed each time.
    path.write_text(json.dumps(coco(annotation(1), annotation(2, bbox=[]))))
    for number in (7, 8):
        with pytest.raises(DataError, match="bbox is"):
            check_evaluation_annotations(name, folder=tmp_path)
        assert len(read) == number


@pytest.mark.parametrize("changes", [{}, {"bbox": [2, 2, -1, 5]}], ids=["right", "wrong"])
def test_one_process_of_a_job_reads_the_file(dataset, tmp_path, changes, monkeypatch):
    name = dataset(coco(annotation(1), annotation(2, **changes)))
    sent = []

    def check(skip):
        skipped = Skipped()
        try:
            chosen = check_training_annotations(name, skip, skipped, tmp_path / "output")
        except DataError as error:
            return str(error)
        return [len(record["annotations"]) for record in DatasetCatalog.get(chosen)], skipped

    def send(data):
        sent.append(data)
        return [data]

    monkeypatch.setattr(annotation_checks.comm, "all_gather", send)
    first = [check(skip) for skip in (False, True)]
    # Another process, which takes what the first one sent.
    monkeypatch.setattr(annotation_checks.comm, "all_gather", lambda _: [sent.pop(0)])
    monkeypatch.setattr(annotation_checks.comm, "is_main_process", lambda: False)
    monkeypatch.setattr(annotation_checks, "read_annotations", None)
    assert [check(skip) for skip in (False, True)] == first
    assert not sent
    assert first[1][0] == [2 - bool(changes), 0]
    assert ("must be" in first[0]) == bool(changes)
