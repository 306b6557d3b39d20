"""Outlines and labels: painted into pictures, and as SVG over them."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from softpool_det.report.drawing import LONGER_SIDE, DrawnObject, draw_objects
from softpool_det.report.overlay import Shape, Threshold, frame_of, label_place, outline
from softpool_det.report.pictures import MAX_SIDE


def drawn(objects, size=(56, 56)):
    data = draw_objects(Image.new("RGB", size, (128, 128, 128)), objects)
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def changed(image):
    return np.abs(image - 128).max(axis=2) > 40


def test_draws_boxes_in_place():
    scale = LONGER_SIDE / 56
    image = changed(drawn([DrawnObject((14, 14, 28, 28), "", 0)]))
    assert image[round(42 * scale), round(16 * scale) : round(40 * scale)].mean() == 1
    assert not image[: round(10 * scale)].any()


def test_draws_labels_inside_the_image():
    for box in ((0, 0, 5, 5), (50, 50, 6, 6), (-3, 20, 100, 5)):
        assert drawn([DrawnObject(box, "a long label of a class", 1)]).shape == (560, 560, 3)


def test_labels_are_left_out_where_they_would_hide_everything():
    # Labels stand above the boxes.
    boxes = [DrawnObject((2 * number, 30, 2, 2), "cat", 0) for number in range(21)]
    assert changed(drawn(boxes))[284:296].sum() == 0
    assert changed(drawn(boxes[:20]))[284:296].sum() > 0


def numbers(path):
    return [float(value) for value in re.findall(r"-?[\d.]+", path)]


def test_outlines_of_boxes_have_one_decimal():
    frame = frame_of(80, 60)
    assert frame == (MAX_SIDE, 480)
    box = outline((10.01, 10, 20, 1 / 3), None, frame, 8)
    assert box == ("M80.1 80h160v2.7h-160z", False)
    # As far out as it likes.
    assert outline((-1e300, -5, 2e300, 1e300), None, frame, 8)[0] == "M-9 -9h658v498h-658z"


@pytest.mark.parametrize(("height", "width"), [(60, 80), (1200, 1600)])
def test_outlines_of_masks_fit_them(height, width):
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[10:50, 20:60] = 1
    mask[20:40, 30:40] = 0
    mask = np.kron(mask, np.ones((height // 60, width // 80), dtype=np.uint8))
    frame = frame_of(width, height)
    path, is_mask = outline((0, 0, 1, 1), mask, frame, 1)
    assert is_mask
    outer, hole = (np.cumsum(np.reshape(numbers(p), (-1, 2)), axis=0) for p in path.split("z")[:2])
    for found, box in ((outer, (160, 80, 480, 400)), (hole, (240, 160, 320, 320))):
        assert [*found.min(axis=0), *found.max(axis=0)] == pytest.approx(box, abs=1)
    assert len(path) < 110


def test_a_mask_of_nothing_has_its_box():
    empty = np.zeros((60, 80), dtype=np.uint8)
    assert outline((1, 1, 2, 2), empty, (640, 480), 8) == ("M8 8h16v16h-16z", False)


@pytest.mark.parametrize(("width", "thickness"), [(4000, 8), (1920, 2), (640, 1), (80, 1)])
def test_thin_masks_have_an_outline(width, thickness):
    height = width * 3 // 4
    mask = np.zeros((height, width), dtype=np.uint8)
    for step in range(height - thickness):
        mask[step, step : step + thickness] = 1
    path, is_mask = outline((0, 0, width, height), mask, frame_of(width, height), 640 / width)
    assert is_mask
    steps = [numbers(part) for part in path.split("z")[:-1]]
    points = np.concatenate([np.cumsum(np.reshape(s, (-1, 2)), axis=0) for s in steps])
    assert np.ptp(points, axis=0) == pytest.approx([480, 480], abs=20)
    assert abs(points[:, 0] - points[:, 1]).max() < 10


def test_labels_keep_to_the_wider_side_of_their_box():
    frame = (640, 480)
    left = "left:12.5%;max-width:87.5%;bottom:min(50%,100% - 1lh)"
    right = "right:0%;max-width:100%;bottom:min(100%,100% - 1lh)"
    assert label_place((10, 30, 20, 20), frame, 8) == left
    assert label_place((60, 0, 40, 20), frame, 8) == right


def test_labels_of_scores_agree_with_the_slider():
    shape = Shape("", False, "", 1, "cat", 0.999)
    assert shape.label == "cat 0.99"
    threshold = Threshold(0.1)
    assert (threshold.last(shape.score), threshold.text) == (99, "0.10")
    scores = (1.0, 0.29, 0.05, 123.4, -2)
    labels = ["cat 1.00", "cat 0.29", "cat 0.05", "cat 123.40", "cat -2.00"]
    assert [replace(shape, score=score).label for score in scores] == labels
