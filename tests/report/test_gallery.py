"""Pictures of images that gained and lost, with a detector's right and wrong detections."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.report import gallery
from softpool_det.report.overlay import (
    Threshold,
    classes_of,
)
from softpool_det.report.pictures import PictureRow, embed

GROUND_TRUTH = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 60} for i in (7, 8, 9)],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 20], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [50, 10, 20, 40], "iscrowd": 0},
        {"id": 3, "image_id": 8, "category_id": 5, "bbox": [0, 0, 40, 40], "iscrowd": 1},
    ],
}
GAINS = [
    {"candidate": "new", "image_id": 7, "baseline": 20.0, "candidate_ap": 45.0, "gain": 25.0},
    {"candidate": "new", "image_id": 9, "baseline": 5.0, "candidate_ap": 5.0, "gain": 0.0},
    {"candidate": "new", "image_id": 8, "baseline": 30.0, "candidate_ap": 10.0, "gain": -20.0},
]


def found(image_id, category_id, box, score):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


RESULTS = {
    # Another class; the right one; the same once more; too far off; too unsure.
    "stock": [
        found(7, 5, [10, 10, 20, 20], 0.99),
        found(7, 3, [11, 10, 20, 20], 0.9),
        found(7, 3, [10, 10, 20, 20], 0.8),
        found(7, 5, [40, 10, 20, 40], 0.7),
        found(7, 5, [50, 10, 20, 40], 0.1),
    ],
    # Any number of detections may lie in a crowd.
    "new": [found(8, 5, [0, 0, 30, 20], 0.9), found(8, 5, [5, 5, 30, 20], 0.8)],
}


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(60, 200, (60, 80, 3), dtype=np.uint8)
    for image in GROUND_TRUTH["images"]:
        Image.fromarray(pixels).save(tmp_path / image["file_name"])
    return tmp_path


def gallery_rows(image_gains, ground_truth, results, image_folder, **options):
    """The rows of files of this content."""

    def write(name, content):
        path = image_folder / f"{name}.json"
        path.write_text(json.dumps(content, default=bytes.decode))
        return path

    truth = read_ground_truth(write("truth", ground_truth))
    found = {name: read_detections(write(name, taken), truth) for name, taken in results.items()}
    return gallery.gallery_rows(image_gains, truth, found, image_folder, **options)


def counts(row):
    """By panel: right and wrong detections shown at first, and from which score on."""
    return {p.name: (p.right, p.wrong, p.threshold.text) for p in row.panels[1:]}


LOW = {"stock": 0.4, "new": 0.4}


def test_gained_first_then_lost_then_nothing_else(folder):
    rows = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)
    minus = "\N{MINUS SIGN}"
    assert [row.title for row in rows] == [
        "Image 7 (7.png): new +25.0 box AP",
        f"Image 8 (8.png): new {minus}20.0 box AP",
    ]
    assert "20.0 of the baseline and 45.0 of new; 2 objects" in rows[0].caption


def test_an_image_of_two_candidates_is_there_once(folder):
    other = [{**GAINS[2], "candidate": "other"}, {**GAINS[0], "candidate": "other", "gain": 5.0}]
    results = {**RESULTS, "other": RESULTS["new"]}
    thresholds = dict.fromkeys(results, 0.4)
    rows = gallery_rows(GAINS + other, GROUND_TRUTH, results, folder, thresholds=thresholds)
    minus = "\N{MINUS SIGN}"
    assert [row.title for row in rows] == [
        "Image 7 (7.png): new +25.0, other +5.0 box AP",
        f"Image 8 (8.png): new {minus}20.0, other {minus}20.0 box AP",
    ]
    assert "20.0 of the baseline, 45.0 of new and 45.0 of other;" in rows[0].caption
    assert [panel.name for panel in rows[0].panels] == ["ground truth", "stock", "new", "other"]


def test_counts_right_and_wrong_as_coco_matches(folder):
    gained, lost = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)
    assert counts(gained) == {"stock": (1, 3, "0.40"), "new": (0, 0, "0.40")}
    assert counts(lost) == {"stock": (0, 0, "0.40"), "new": (2, 0, "0.40")}
    assert [len(row.panels[0].shapes) for row in (gained, lost)] == [2, 1]
    shy = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds={**LOW, "stock": 0.95})
    assert counts(shy[0])["stock"] == (0, 1, "0.95")


def test_a_crowd_is_for_what_no_object_is_left_for(folder):
    """COCO: an object comes first, though more of the detection lies in the crowd."""
    crowd = {"id": 4, "image_id": 7, "category_id": 5, "bbox": [0, 0, 62, 60], "iscrowd": 1}
    single = {"id": 5, "image_id": 7, "category_id": 5, "bbox": [50, 10, 20, 20], "iscrowd": 0}
    truth = {**GROUND_TRUTH, "annotations": [crowd, single]}
    boxes = {0.9: 45, 0.8: 46, 0.7: 54}
    results = {"stock": [found(7, 5, [x, 10, 20, 20], score) for score, x in boxes.items()]}
    (row,) = gallery_rows(GAINS[:1], truth, results, folder, thresholds={"stock": 0.4})
    # The last one is mostly outside of the crowd.
    assert [shape.right for shape in row.panels[1].shapes] == [True, True, False]


@pytest.mark.parametrize("size", [(1, 15000), (7, 6000)])
def test_narrow_images_have_their_boxes_in_place(folder, size):
    Image.new("RGB", size).save(folder / "7.png")
    width, height = size
    image = {"id": 7, "file_name": "7.png", "width": width, "height": height}
    box = {**GROUND_TRUTH["annotations"][0], "bbox": [0, height / 2, width, height / 2]}
    truth = {**GROUND_TRUTH, "images": [image], "annotations": [box]}
    (row,) = gallery_rows(GAINS[:1], truth, {"stock": []}, folder, thresholds={"stock": 0.4})
    x, y, w, h, _ = map(float, re.findall(r"-?[\d.]+", row.panels[0].shapes[0].path))
    assert (x, y, y + h) == (0, 320, 640)
    assert w == pytest.approx(row.frame[0], abs=0.05)
    assert row.panels[0].shapes[0].place.startswith("left:0%;max-width:100%")


def test_any_threshold_finds_what_a_matching_from_it_on_finds(folder):
    """The slider moves no outline from right to wrong: lower scores take nothing away."""
    low = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=dict.fromkeys(RESULTS, 0.0))
    for score in (0.05, 0.1, 0.5, 0.75, 0.85, 1.0):
        thresholds = dict.fromkeys(RESULTS, score)
        rows = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=thresholds)
        for all_of, some in zip(low, rows, strict=True):
            for panel, other in zip(all_of.panels[1:], some.panels[1:], strict=True):
                kept = [(s.path, s.right) for s in panel.shapes if s.score >= score]
                shown = filter(other.shows, other.shapes)
                assert kept == [(s.path, s.right) for s in shown]


def test_detections_below_the_threshold_are_there_for_the_slider(folder):
    faint = [found(7, 3, [1, 1, 9, 9], score) for score in (0.05, 0.0499)]
    results = {**RESULTS, "stock": RESULTS["stock"] + faint}
    row, _ = gallery_rows(GAINS, GROUND_TRUTH, results, folder, thresholds=LOW)
    panel = row.panels[1]
    shapes = panel.shapes
    assert [shape.score for shape in shapes] == [0.99, 0.9, 0.8, 0.7, 0.1, 0.05]
    assert [panel.shows(shape) for shape in shapes] == [True] * 4 + [False] * 2
    assert [shape.last for shape in shapes] == [99, 90, 80, 70, 10, 5]


@pytest.mark.parametrize("initial", [0.0, 0.03, 0.3127, 0.3151, 0.5, 0.9999, 1.0, 7.5, -2.0])
def test_positions_of_a_slider(initial):
    """Each stands for its score, the first one shown for exactly the threshold."""
    threshold = Threshold(initial)
    assert 0 <= threshold.first <= threshold.start <= 100
    for score in [*np.linspace(-1, 2, 301).round(2), 0.29, 0.3126, initial, 9.0]:
        last = threshold.last(score)
        assert (last >= threshold.start) == (score >= initial)
        for place in range(threshold.first, 101):
            if place != threshold.start and 0 < place < 100:
                assert (last >= place) == (score >= place / 100) or abs(initial) > 1


def test_which_of_many_equal_scores_are_shown_does_not_depend_on_the_file(folder):
    entries = [found(7, 3, [30 + i / 10, 40, 9, 9], 0.5) for i in range(200)]
    entries.append(found(7, 3, [10, 10, 20, 20], 0.5))
    shown = [
        gallery_rows(GAINS, GROUND_TRUTH, results, folder, thresholds=LOW)[0].panels[1]
        for order in (entries, entries[::-1])
        for results in [{**RESULTS, "stock": order}]
    ]
    assert shown[0] == shown[1]


def test_matches_masks_by_masks(folder):
    square, corner = np.zeros((2, 60, 80), dtype=np.uint8, order="C")
    square[10:30, 10:30] = 1
    # The same box, a quarter of the area.
    corner[10:30, 10:15] = corner[25:30, 10:30] = 1
    truth = dict(GROUND_TRUTH)
    polygon = [[10, 10, 30, 10, 30, 30, 10, 30]]
    truth["annotations"] = [{**GROUND_TRUTH["annotations"][0], "segmentation": polygon}]
    results = {
        name: [
            {
                **found(7, 3, [10, 10, 20, 20], 0.9),
                "segmentation": coco_mask.encode(np.asfortranarray(mask)),
            }
        ]
        for name, mask in (("whole", square), ("corner", corner))
    }
    (row,) = gallery_rows(
        GAINS[:1], truth, results, folder, thresholds=dict.fromkeys(results, 0.4), task="segm"
    )
    assert counts(row) == {"whole": (1, 0, "0.40"), "corner": (0, 1, "0.40")}
    assert all(shape.is_mask for panel in row.panels for shape in panel.shapes)
    del results["whole"][0]["bbox"]
    (row,) = gallery_rows(
        GAINS[:1], truth, results, folder, thresholds=dict.fromkeys(results, 0.4), task="segm"
    )
    assert counts(row)["whole"] == (1, 0, "0.40")


def test_boxes_are_drawn_on_the_image_as_exif_turns_it(folder):
    tags = Image.Exif()
    tags[0x0112] = 8
    stored = Image.open(folder / "7.png").transpose(Image.Transpose.ROTATE_270)
    expected, _ = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)
    stored.save(folder / "7.png", exif=tags)
    found, _ = gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)
    assert found == expected


def test_image_of_another_size_than_its_annotation(folder):
    tags = Image.Exif()
    tags[0x0112] = 8
    Image.open(folder / "7.png").save(folder / "7.png", exif=tags)
    with pytest.raises(
        ValueError, match=r"'7\.png' in .*: it is 60x80 pixels, its annotation says"
    ):
        gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)


def test_sixteen_bits_are_not_white(folder):
    pixels = np.asarray(Image.open(folder / "7.png").convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint16) * 257).save(buffer, "PNG")
    (picture,) = embed(PictureRow("title", "caption", [("grey", buffer.getvalue())]))
    embedded = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    assert np.asarray(embedded.convert("L")).mean() == pytest.approx(pixels.mean(), abs=2)


def test_says_which_image_is_missing(folder):
    (folder / "7.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"'7\.png' of the ground truth is not in"):
        gallery_rows(GAINS, GROUND_TRUTH, RESULTS, folder, thresholds=LOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "keypoints"}, "'bbox' or 'segm', got 'keypoints'"),
        ({"thresholds": {"stock": 0.4}}, r"of \['stock', 'new'\], got \['stock'\]"),
        ({"image_gains": [{**GAINS[0], "image_id": 1}]}, r"ground_truth has not: \[1\]"),
    ],
)
def test_arguments_are_checked(folder, change, message):
    arguments = {
        "image_gains": GAINS,
        "ground_truth": GROUND_TRUTH,
        "results": RESULTS,
        "image_folder": folder,
        "thresholds": LOW,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        gallery_rows(**arguments)


def test_classes_of_long_names_stay_apart(folder):
    names = [f"a class of a long, long name, number {number}" for number in (1, 2)]
    categories = [{"id": i, "name": name} for i, name in zip((3, 5), names, strict=True)]
    truth = {**GROUND_TRUTH, "categories": categories}
    rows = gallery_rows(GAINS[:1], truth, RESULTS, folder, thresholds=LOW)
    assert [name for name, _ in classes_of(rows)] == names
    assert {len(shape.label) for shape in rows[0].panels[0].shapes} == {24}
