"""Files that are packed, damaged or no text."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from scenes import scene
from strange_files import read

from softpool_det.coco import entries
from softpool_det.coco.reading import read_detections, read_ground_truth


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
