import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from softpool_det.datasets.tree_crowns import (
    DATASETS,
    NAMES,
    PHOTOGRAPHS,
    clip_boxes,
    spans,
)

TRAIN, VAL = DATASETS

corners = st.tuples(*[st.integers(0, 120)] * 2, *[st.integers(1, 60)] * 2)


def _photograph(fetched_root, name):
    with zipfile.ZipFile(fetched_root / "wheels" / PHOTOGRAPHS.filename) as wheel:
        image = Image.open(io.BytesIO(wheel.read(f"deepforest/data/{name}.png")))
        return np.asarray(image.convert("RGB"))


def test_split_by_scene(fetched_root):
    """No photograph is in both splits, not even under another name."""
    digests = {
        split: {
            hashlib.sha256(_photograph(fetched_root, name).tobytes()).hexdigest() for name in names
        }
        for split, names in NAMES.items()
    }
    assert not digests["train"] & digests["val"]


def test_val_tiles_cover_the_photographs_once(fetched_root):
    pixels = sum(scene.image.shape[0] * scene.image.shape[1] for scene in VAL.scenes(fetched_root))
    names = NAMES["val"]
    assert pixels == sum(_photograph(fetched_root, name)[..., 0].size for name in names)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_boxes_lie_in_their_tiles(dataset, fetched_root):
    count = 0
    for scene in dataset.scenes(fetched_root):
        height, width = scene.image.shape[:2]
        assert 200 <= height <= 300
        assert 200 <= width <= 300
        for annotation in scene.annotations:
            x, y, box_width, box_height = annotation["bbox"]
            assert 0 <= x < x + box_width <= width
            assert 0 <= y < y + box_height <= height
            assert annotation["area"] == box_width * box_height
            count += 1
    # 279 + 37 boxes in the photographs of val, of which some are cut by a tile's border.
    assert count == 2202 if dataset is TRAIN else 300 <= count <= 330


@given(st.lists(corners, max_size=8), corners)
def test_clip_boxes(boxes, window):
    left, top, width, height = window
    right, bottom = left + width, top + height
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.int64).reshape(-1, 4)
    expected = []
    for x0, y0, x1, y1 in boxes:
        inside = np.zeros((200, 200), bool)
        inside[y0:y1, x0:x1] = True
        visible = inside[top:bottom, left:right]
        if visible.sum() >= 0.5 * inside.sum():
            rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
            expected.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert clip_boxes(boxes, left, top, right, bottom).tolist() == expected


@given(st.integers(2, 3000))
def test_spans_without_overlap_cover_the_side(side):
    covered = [pixel for start, end in spans(side, overlap=False) for pixel in range(start, end)]
    assert covered == list(range(side))


@given(st.integers(300, 3000))
def test_spans_with_overlap_cover_the_side(side):
    pieces = spans(side, overlap=True)
    assert set().union(*(range(start, end) for start, end in pieces)) == set(range(side))
    assert all(170 <= end - start <= 384 for start, end in pieces)
