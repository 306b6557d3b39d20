"""Annotation files in COCO's format that cannot be right."""

import json
import os
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from pycocotools import mask as mask_utils

from softpool_det.coco import annotations
from softpool_det.coco.annotations import numbered_faults
from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.training import annotation_checks
from softpool_det.training.annotation_checks import (
    CHECKED_FILE,
    check_evaluation_annotations,
    check_training_annotations,
)

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]
NAN = float("nan")


def annotation(number, **changes):
    plain = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
    return {"id": number, **plain, "segmentation": [SQUARE], **changes}


def coco(*annotations, **changes):
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)]
    categories = [{"id": 1, "name": "one"}, {"id": 7, "name": "seven"}]
    lists = {"images": images, "categories": categories, "annotations": list(annotations)}
    return {**lists, **changes}


@pytest.fixture
def dataset(tmp_path):
    """Registers a file's content under a name, for the time of a test."""
    names = []

    def register(content):
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        name = f"annotations_test_{len(names)}"
        register_coco_instances(name, {"note": "kept"}, str(path), str(tmp_path / "images"))
        names.append(name)
        return name

    yield register
    for name in [n for n in DatasetCatalog.list() if n.startswith("annotations_test_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def rle(height=20, width=30, ones=5):
    return {"size": [height, width], "counts": [3, ones, height * width - 3 - ones]}


FAULTS = {
    "negative width": ({"bbox": [2, 2, -1, 5]}, "a width and a height of 0 or more"),
    "NaN box": ({"bbox": [2, NAN, 3, 5]}, "must be [x, y, width, height], four finite numbers"),
    "infinite box": (
        {"bbox": [2, 2, float("inf"), 5]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "short box": ({"bbox": [2, 2, 3]}, "must be [x, y, width, height], four finite numbers"),
    "box of words": (
        {"bbox": ["2", 2, 3, 4]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "no box": ({"bbox": None}, "bbox is None"),
    "unknown category": (
        {"category_id": 3},
        "category_id is 3, must be one of the 2 category ids from 1 to 7",
    ),
    "list for a category": ({"category_id": [1]}, "category_id is [1], must be one of the 2"),
    "unknown image": ({"image_id": 9}, "image_id is 9, must be the id of an image in this file"),
    "polygon without area": (
        {"segmentation": [[2, 2, 9, 2, 5, 2]]},
        "must be a mask with an area: its bbox is [2, 2, 10, 10]",
    ),
    "mask without area": (
        {"segmentation": rle(ones=0)},
        "must be a mask with an area: its bbox is [2, 2, 10, 10]",
    ),
    "NaN polygon": ({"segmentation": [[2, 2, NAN, 2, 5, 2]]}, "must be polygons of finite numbers"),
    "mask of another size": (
        {"segmentation": rle(30, 20)},
        "segmentation.size is [30, 20], must be [20, 30], the image's height and width",
    ),
    "too short a mask": (
        {"segmentation": {"size": [20, 30], "counts": [3, 4]}},
        "must be whole numbers from 0 that add up to height x width, 20x30",
    ),
    "broken string": (
        {"segmentation": {"size": [20, 30], "counts": "~~"}},
        "segmentation.counts is '~~', must be",
    ),
    "polygon out of this world": (
        {"segmentation": [[1e9, 1, 9, 1, 9, 1e9]]},
        "must be a polygon with coordinates of at most 1048576",
    ),
    "endless polygon": (
        {"segmentation": [[0, 0, 9e5, 9e5] * 9]},
        "must be a polygon with coordinates of at most 1048576",
    ),
    "ignored": ({"ignore": 1}, "ignore is 1, must be 0, all that Detectron2 takes"),
    "keypoints of nothing": (
        {"keypoints": [None, 1, 2]},
        "keypoints is [None, 1, 2], must be finite numbers",
    ),
    "id twice": ({"id": 1}, "another entry before it has the same id"),
    "huge box": (
        {"bbox": [2, 2, 10**400, 5]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "NaN area": ({"area": NAN}, "area is nan, must be a finite number of pixels, 0 or more"),
    "infinite area": ({"area": float("inf")}, "area is inf, must be a finite number"),
    "huge area": ({"area": 10**400}, "must be a finite number of pixels, 0 or more"),
    "negative area": ({"area": -0.5}, "area is -0.5, must be a finite number"),
    "area of words": ({"area": "100"}, "area is '100', must be a finite number"),
    "crowd of two": ({"iscrowd": 2}, "iscrowd is 2, must be 0 or 1"),
    "crowd in words": ({"iscrowd": "0"}, "iscrowd is '0', must be 0 or 1"),
    # Detectron2 would leave such an object out of a training without a word.
    "crowd of nothing": ({"iscrowd": None}, "iscrowd is None, must be 0 or 1"),
}


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
        ('{"images": [\n1, ', "not a JSON file: Expecting value: line 2"),
        ("[]", "the list 'images' is missing"),
        (json.dumps({"images": [{"id": 1, "file_name": "1"}]}), "the list 'categories' is missing"),
        (
            coco(images=[{"id": 1}]),
            "entry 0 of images (id 1): file_name is missing, must be a text",
        ),
        (coco(categories=[3]), "entry 0 of categories is 3, must be an object"),
        (coco(images=[]), "there are no images"),
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
    try:
        check_evaluation_annotations("annotations_test_other")
        found = check_training_annotations("annotations_test_other", True, Skipped(), tmp_path)
        assert found == "annotations_test_other"
    finally:
        DatasetCatalog.remove("annotations_test_other")


NO_SIZES = {
    "null": {"height": None, "width": None},
    "missing": {},
    "one side": {"height": 20},
}


def sized(tmp_path, image, **options):
    """A data set of two images, the first of which has the size of its file, 30x20 as shown."""
    (tmp_path / "images").mkdir()
    stored = (20, 30) if options else (30, 20)
    Image.new("L", stored).save(tmp_path / "images" / "1.jpg", **options)
    images = [
        {"id": "a", "file_name": "1.jpg", **image},
        {"id": "b", "file_name": "2.png", "height": 7, "width": 9},
    ]
    return coco(annotation(1, image_id="a"), annotation(2, image_id="b"), images=images)


TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize("options", [{}, {"exif": TURNED}], ids=["plain", "turned by EXIF"])
@pytest.mark.parametrize("image", NO_SIZES.values(), ids=NO_SIZES)
def test_size_is_read_from_the_image(dataset, tmp_path, image, options, caplog):
    content = sized(tmp_path, image, **options)
    for training in (False, True):
        name = dataset(content)
        skipped = Skipped()
        if training:
            assert check_training_annotations(name, False, skipped, tmp_path / "output") == name
        else:
            check_evaluation_annotations(name)
        records = DatasetCatalog.get(name)
        sizes = [(record["image_id"], record["height"], record["width"]) for record in records]
        assert sizes == [("a", 20, 30), ("b", 7, 9)]
        assert records[0]["file_name"] == str(tmp_path / "images" / "1.jpg")
        assert MetadataCatalog.get(name).thing_classes == ["one", "seven"]
    assert json.loads((tmp_path / "instances.json").read_text()) == content
    lines = [record.getMessage() for record in caplog.records if "size" in record.getMessage()]
    assert lines == [
        f"{tmp_path / 'instances.json'}: 1 of 2 images have no size; it is read from the files"
    ]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_size_that_cannot_be_read(dataset, tmp_path, damage):
    name = dataset(sized(tmp_path, NO_SIZES["null"]))
    image = tmp_path / "images" / "1.jpg"
    if damage == "missing":
        image.unlink()
        reason = f"{image}: there is no such file"
    else:
        image.write_bytes(image.read_bytes()[:2])
        reason = f"{image} cannot be read as an image (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)"
    reason = f"it has no size, and {reason}"
    entry = f"{tmp_path / 'instances.json'}: entry 0 of images (id 'a')"
    with pytest.raises(DataError) as error:
        check_evaluation_annotations(name)
    assert str(error.value) == f"{entry}: {reason}"
    with pytest.raises(DataError, match=r"INPUT\.SKIP_CORRUPT True leaves such entries out"):
        check_training_annotations(name, False, Skipped(), tmp_path)
    skipped = Skipped()
    copy = check_training_annotations(name, True, skipped, tmp_path / "output")
    assert skipped.reasons == {entry: reason}
    (record,) = DatasetCatalog.get(copy)
    assert record["image_id"] == "b"
    assert len(record["annotations"]) == 1


def test_run_lengths_in_an_image_without_a_size(dataset, tmp_path):
    content = sized(tmp_path, NO_SIZES["missing"])
    (tmp_path / "images" / "1.jpg").unlink()
    content["annotations"][0]["segmentation"] = {"size": [20, 30], "counts": [600]}
    with pytest.raises(
        DataError, match=r"entry 0 of images .* it has no size, and .* no such file"
    ):
        check_training_annotations(dataset(content), False, Skipped(), tmp_path)


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


POLYGONS = [
    [SQUARE],
    [[2, 2, 9, 2, 5, 2]],
    [SQUARE, [1, 1]],
    [SQUARE, [1, 1, 3]],
    [SQUARE, SQUARE[::-1]],
    [[0, 0, 1e-3, 0, 0, 1e-3]],
    [[2**20, 0, 5, 0, 0, 5]],
    [[2**20 + 1, 0, 5, 0, 0, 5]],
    [[0, 0, 9e5, 9e5] * 9],
    [[2, 2, NAN, 2, 5, 9]],
    [[2, 2, True, 2, 5, 9]],
    [[2, 2, "9", 2, 5, 9]],
    [[2, 2, 10**400, 2, 5, 9]],
    [SQUARE, None],
    [[]],
    [],
    None,
    "text",
    rle(),
]


@pytest.mark.parametrize("seed", range(5))
def test_many_annotations_at_once_have_the_faults_of_each(seed, monkeypatch):
    """The checks of whole columns find right only what the rules find right, one by one."""
    chance = random.Random(seed)
    changes = [c for c, _ in FAULTS.values() if "id" not in c]
    changes += [{"segmentation": s} for s in POLYGONS]
    changes += [{"area": None}, {"area": []}, {"iscrowd": True}, {"image_id": True}, {}, {}]
    chosen = [chance.choice(changes) for _ in range(chance.choice([3, 3000]))]
    content = coco(*(annotation(number, **c) for number, c in enumerate(chosen)))
    together = dict(numbered_faults(Path("x"), content))
    monkeypatch.setattr(
        annotations, "_surely_right", lambda entries, *_: np.zeros(len(entries.entries), bool)
    )
    assert together == dict(numbered_faults(Path("x"), content))
    assert len(together) < len(chosen) or len(chosen) == 3
