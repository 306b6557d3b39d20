import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as mask_utils

from softpool_det.coco.checks import TEST_DEV
from softpool_det.coco.rle import counts_problem
from softpool_det.testdev import read_image_info, report_text, validate_results, write_submission
from softpool_det.testdev.validate import MAX_BYTES

NAME = "detections_test-dev2017_method-1.2_results"
# COCO's ids have gaps.
INFO = {
    "images": [
        {"id": 7, "height": 40, "width": 60, "file_name": "a.jpg"},
        {"id": 9, "height": 50, "width": 50, "file_name": "b.jpg"},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}


def encoded(height, width):
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[5:20, 10:30] = 1
    rle = mask_utils.encode(mask)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def entry(**changes):
    right = {
        "image_id": 7,
        "category_id": 18,
        "bbox": [10.0, 5.0, 20.0, 15.0],
        "segmentation": encoded(40, 60),
        "score": 0.5,
    }
    return {key: value for key, value in (right | changes).items() if value is not None}


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps(INFO))
    return read_image_info(path)


@pytest.fixture
def validate(tmp_path, info):
    """Validates entries, or text, written as JSON under the right name."""

    def run(content, **options):
        path = tmp_path / f"{NAME}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return validate_results(path, info, **options)

    return run


def test_valid(validate):
    report = validate([entry(), entry(image_id=9, segmentation=encoded(50, 50), score=1)])
    assert report.violations.total == 0, report_text(report)
    assert (report.entries, report.boxes, report.masks) == (2, 2, 2)
    assert (report.images, report.images_with_detections, report.most_detections) == (2, 2, 1)
    assert report_text(report).endswith("valid: no violations")


@pytest.mark.parametrize("missing", ["bbox", "segmentation"])
def test_boxes_or_masks_alone_are_valid(validate, missing):
    assert validate([entry(**{missing: None})] * 3).violations.total == 0


BOX_RIGHT = "[x, y, width, height], four finite numbers in pixels"
INSIDE = "[x, y, width, height] inside the image, 60 wide and 40 high"
CASES = {
    "unknown image": ({"image_id": 8}, "image_id", "8", "the id of an image"),
    "no image": ({"image_id": None}, "image_id", "missing", "the id of an image"),
    "image as text": ({"image_id": "7"}, "image_id", "'7'", "the id of an image"),
    "image as truth": ({"image_id": True}, "image_id", "True", "the id of an image"),
    "image as list": ({"image_id": [7]}, "image_id", "[7]", "the id of an image"),
    "index of a class": ({"category_id": 0}, "category_id", "0", "index from 0 has to be mapped"),
    "gap in the ids": ({"category_id": 2}, "category_id", "2", "one of the 2 category ids"),
    "large category": ({"category_id": 91}, "category_id", "91", "one of the 2 category ids 1, 18"),
    "no category": ({"category_id": None}, "category_id", "missing", "one of the 2"),
    "score above 1": ({"score": 1.01}, "score", "1.01", "a number from 0 to 1"),
    "score below 0": ({"score": -0.1}, "score", "-0.1", "a number from 0 to 1"),
    "no score": ({"score": None}, "score", "missing", "a number from 0 to 1"),
    "score as text": ({"score": "0.5"}, "score", "'0.5'", "a number from 0 to 1"),
    "score as truth": ({"score": True}, "score", "True", "a number from 0 to 1"),
    "three numbers": ({"bbox": [1, 2, 3]}, "bbox", "[1, 2, 3]", BOX_RIGHT),
    "box as object": ({"bbox": {"x": 1}}, "bbox", "{'x': 1}", BOX_RIGHT),
    "text in a box": ({"bbox": [1, 2, 3, "4"]}, "bbox", "[1, 2, 3, '4']", BOX_RIGHT),
    "no width": ({"bbox": [1, 2, 0, 4]}, "bbox", "[1, 2, 0, 4]", "a width and a height above 0"),
    "left of the image": ({"bbox": [-2, 2, 9, 4]}, "bbox", "[-2, 2, 9, 4]", INSIDE),
    "below the image": ({"bbox": [1, 30, 9, 12]}, "bbox", "[1, 30, 9, 12]", INSIDE),
    "corners": ({"bbox": [40, 30, 55, 38]}, "bbox", "[40, 30, 55, 38]", "x1, y1, x2, y2 it fits"),
    "polygon": ({"segmentation": [[1, 1, 9, 1, 9, 9]]}, "segmentation", "[[1, 1", "polygons are"),
    "mask as text": ({"segmentation": "abc"}, "segmentation", "'abc'", "a run-length encoding"),
    "width first": (
        {"segmentation": encoded(60, 40)},
        "segmentation.size",
        "[60, 40]",
        "[40, 60], the image's height and width; this is width and height",
    ),
    "other size": (
        {"segmentation": encoded(50, 50)},
        "segmentation.size",
        "[50, 50]",
        "[40, 60], the image's height and width",
    ),
    "size of text": (
        {"segmentation": {"size": ["40", "60"], "counts": ""}},
        "segmentation.size",
        "['40', '60']",
        "[height, width] in whole pixels",
    ),
    "counts as list": (
        {"segmentation": {"size": [40, 60], "counts": [0, 2400]}},
        "segmentation.counts",
        "[0, 2400]",
        "a string of compressed run lengths",
    ),
    "counts cut off": (
        {"segmentation": {**encoded(40, 60), "counts": encoded(40, 60)["counts"][:-1]}},
        "segmentation.counts",
        "'",
        "40x60 pixels: this one",
    ),
    "counts too long": (
        {"segmentation": {"size": [40, 60], "counts": "0" * (TEST_DEV.max_counts + 1)}},
        "segmentation.counts",
        "'0000",
        f"at most {TEST_DEV.max_counts} characters, these are {TEST_DEV.max_counts + 1}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_violation_is_named_with_its_entry(validate, name):
    changes, field, value, expected = CASES[name]
    report = validate([entry(), entry(**changes), entry()])
    assert report.violations.total == 1, report_text(report)
    violation = report.violations.kept[0]
    assert (violation.entry, violation.field) == (1, field)
    assert violation.value.startswith(value)
    assert expected in violation.expected
    assert violation.image_id == changes.get("image_id", 7)
    assert report.entries == 3
    assert f"entry 1 (image {violation.image_id}): {field} is {value}" in report_text(report)
    assert report.corner_boxes == (name == "corners")


def test_one_pixel_of_tolerance(validate):
    boxes = [[-1, -1, 62, 42], [0, 0, 61, 41], [0, 0, 61.1, 41]]
    report = validate([entry(bbox=box) for box in boxes])
    assert [violation.entry for violation in report.violations.kept] == [2]


def test_entry_that_is_no_object(validate):
    report = validate([entry(), 5])
    assert [str(violation) for violation in report.violations.kept] == [
        "entry 1 (image None): entry is 5, must be an object with image_id, category_id, "
        "score and bbox or segmentation"
    ]


def test_what_the_first_entry_has_all_must_have(validate):
    report = validate([entry(), entry(segmentation=None), entry(bbox=None)])
    found = [(v.entry, v.field, v.value) for v in report.violations.kept]
    assert found == [(1, "segmentation", "missing"), (2, "bbox", "missing")]
    neither = validate([entry(segmentation=None, bbox=None)])
    assert [(v.entry, v.field) for v in neither.violations.kept] == [(0, "bbox")]


def test_more_than_100_detections_of_an_image(validate):
    entries = [entry()] * 100 + [entry(image_id=9, segmentation=encoded(50, 50))] + [entry()] * 2
    report = validate(entries)
    assert [violation.entry for violation in report.violations.kept] == [101, 102]
    assert report.violations.kept[0].expected.endswith("this is number 101")
    assert report.most_detections == 102


def test_all_are_counted_and_some_printed(validate):
    report = validate([entry(score=2)] * 50 + [entry(bbox=[0, 0, 1, -1])] * 5, max_reported=3)
    assert report.violations.total == 55
    assert len(report.violations.kept) == 3
    text = report_text(report)
    assert "NOT VALID: 55 violations (score 50, bbox 5)" in text
    assert "... and 52 more" in text


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        ("[]", "file", "an array without entries"),
        ('{"annotations": []}', "file", "one JSON array of detections"),
        ("", "file", "one JSON array of detections"),
        ("[" + json.dumps(entry()) + ", {", "JSON", "broken here"),
        ("[" + json.dumps(entry()) + ", " + json.dumps(entry(score=float("nan"))), "JSON", "NaN"),
        ("[" + json.dumps(entry()) + ', {"score": 1e999}]', "JSON", "overflow"),
    ],
)
def test_broken_files(validate, content, field, said):
    report = validate(content)
    assert report.violations.total == 1, report_text(report)
    violation = report.violations.kept[0]
    assert violation.field == field
    assert said in str(violation)
    if field == "JSON":
        assert violation.entry == report.entries == 1


def test_name(tmp_path, info):
    path = tmp_path / "coco_instances_results.json"
    path.write_text(json.dumps([entry()]))
    report = validate_results(path, info)
    assert [str(violation) for violation in report.violations.kept] == [
        "name is coco_instances_results.json, must be "
        "detections_test-dev2017_<alg>_results.json, or .zip"
    ]
    assert validate_results(path, info, check_name=False).violations.total == 0
    other = path.rename(tmp_path / f"{NAME.replace('test-dev', 'test')}.json")
    assert validate_results(other, info).violations.total == 1
    assert validate_results(other, info, testset="test2017").violations.total == 0


def test_zip(tmp_path, info):
    results = tmp_path / "results.json"
    results.write_text(json.dumps([entry(), entry(score=3)]))
    _, archive = write_submission(results, tmp_path, "method-1.2")
    report = validate_results(archive, info)
    assert [(v.entry, v.field) for v in report.violations.kept] == [(1, "score")]
    assert report.content_bytes == results.stat().st_size
    assert report.bytes == archive.stat().st_size


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["a.json", "b.json"], "a zip of 2: 'a.json', 'b.json'"),
        ([f"folder/{NAME}.json"], f"a zip of 1: 'folder/{NAME}.json'"),
        ([], "a zip of 0"),
        (None, "not a zip"),
    ],
)
def test_wrong_zip(tmp_path, info, members, said):
    path = tmp_path / f"{NAME}.zip"
    path.write_bytes(b"abc")
    if members is not None:
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, "[]")
    report = validate_results(path, info)
    assert report.violations.total == 1
    assert report.violations.kept[0].value.startswith(said)
    assert f"holds {NAME}.json and nothing else" in report.violations.kept[0].expected


def test_file_that_is_too_large(validate, tmp_path):
    """The size is that of a hole in the file: nothing is written."""
    path = tmp_path / f"{NAME}.json"
    path.write_text("x")
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    info = read_image_info(tmp_path / "image_info.json")
    report = validate_results(path, info)
    assert f"{MAX_BYTES + 1} bytes" in report_text(report)


def test_missing_and_wrong_files(tmp_path, info):
    with pytest.raises(FileNotFoundError, match="result file not found"):
        validate_results(tmp_path / "none.json", info)
    wrong = tmp_path / "wrong.json"
    for content in ("[]", "{", '{"images": [], "categories": []}', '{"images": [{"id": 1}]}'):
        wrong.write_text(content)
        with pytest.raises(ValueError, match=r"wrong\.json must"):
            read_image_info(wrong)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans()))
def test_all_that_pycocotools_encodes_can_be_decoded(mask):
    counts = mask_utils.encode(np.asfortranarray(mask))["counts"]
    assert counts_problem(counts, mask.size) is None
    assert "do not add up" in counts_problem(counts, mask.size + 1)


@given(st.binary(max_size=12), st.integers(0, 100))
def test_what_passes_decodes_to_the_mask_and_back(counts, width):
    """A string that is let through means a mask of that size to pycocotools."""
    if counts_problem(counts, 5 * width) is None and width:
        mask = mask_utils.decode({"size": [5, width], "counts": counts})
        assert mask.shape == (5, width)
        again = mask_utils.encode(mask)
        assert mask_utils.area({"size": [5, width], "counts": counts}) == mask.sum()
        assert (mask_utils.decode(again) == mask).all()


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        (b"/", "outside '0' to 'o'"),
        (b"p", "outside '0' to 'o'"),
        (b"P", "in the middle of a number"),
        (b"PPPPPPP0", "more than 35 bits"),
        (b"O", "negative run length"),
        (b"51", "do not add up"),
    ],
)
def test_broken_counts(counts, problem):
    assert problem in counts_problem(counts, 100)
