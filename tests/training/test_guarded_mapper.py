"""Images that cannot be read: one line each."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from detectron2.data import DatasetMapper
from PIL import Image

from softpool_det.config import DEFAULT_MAX_PIXELS
from softpool_det.io.data_errors import DataError
from softpool_det.training.guarded_mapper import EvaluationBatches, GuardedMapper, Unreadable

SIDE = 40


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "image.png"
    pixels = np.random.RandomState(0).randint(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def read(path, max_pixels=DEFAULT_MAX_PIXELS, **record):
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    record = {"file_name": str(path), "height": SIDE, "width": SIDE, **record}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return GuardedMapper(mapper, max_pixels)(record)


def test_whole_image(png):
    assert read(png)["image"].shape == (3, SIDE, SIDE)


def claim_size(png, width, height):
    """A PNG that is small, and says that it is not."""
    data = bytearray(png.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    png.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "file not found"),
        (lambda path: path.write_bytes(b""), "cannot identify image file"),
        (lambda path: path.write_bytes(b"<html>404</html>"), "cannot identify image file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), ""),
        (lambda path: claim_size(path, 50_000, 60_000), "(3000000000 pixels)"),
        (lambda path: claim_size(path, 10_000, 10_000), "INPUT.MAX_PIXELS is 89478485: "),
        (
            lambda path: Image.new("RGB", (SIDE + 1, SIDE)).save(path),
            "it is 41x40 pixels, its annotation says 40x40",
        ),
    ],
    ids=["missing", "empty", "html", "cut", "cut header", "bomb", "large", "another size"],
)
def test_damaged_image(png, damage, reason):
    damage(png)
    found = read(png)
    assert isinstance(found, Unreadable)
    assert found.file_name == str(png)
    assert "\n" not in found.reason
    assert any(part in found.reason for part in reason.split("|")), found.reason


def test_stored_size_of_an_image_that_exif_turns(tmp_path):
    path = tmp_path / "a.jpg"
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (SIDE + 8, SIDE)).save(path, exif=tags)
    assert read(path, height=SIDE + 8)["image"].shape == (3, SIDE + 8, SIDE)
    assert read(path, width=SIDE + 8) == Unreadable(
        str(path),
        "it is 40x48 pixels, its annotation says 48x40: that is the stored size, but EXIF "
        "orientation 6 turns the image. If the boxes are in stored pixels, remove the tag from the "
        "file; otherwise swap width and height in the annotation",
    )


@pytest.mark.parametrize(
    ("mode", "key", "needed"),
    [
        ("P", "sem_seg_file_name", "L"),
        ("I;16", "sem_seg_file_name", "L"),
        ("RGB", "sem_seg_file_name", "L"),
        ("P", "pan_seg_file_name", "RGB"),
    ],
)
def test_labels_are_never_converted(png, tmp_path, mode, key, needed):
    """Detectron2 takes the grey of a palette's colours for the labels."""
    labels = tmp_path / "labels.png"
    Image.new(mode, (SIDE, SIDE)).save(labels)
    found = read(png, **{key: str(labels)})
    assert found.reason == (
        f"{labels} has Pillow's mode {mode}; label images must have {needed} (8 bits a channel), "
        "since converting them would change the labels"
    )
    Image.new(needed, (SIDE, SIDE)).save(labels)
    assert read(png, **{key: str(labels)})["image"].shape == (3, SIDE, SIDE)


def test_limit_is_that_of_the_config(png):
    assert isinstance(read(png, max_pixels=SIDE * SIDE - 1), Unreadable)
    assert read(png, max_pixels=SIDE * SIDE)["image"].shape == (3, SIDE, SIDE)


def test_limit_above_pillows(png):
    """Pillow's own would refuse twice its default at once."""
    claim_size(png, 20_000, 10_000)
    found = read(png, max_pixels=10**9, height=10_000, width=20_000)
    assert "truncated" in found.reason or "broken" in found.reason


def test_a_program_s_fault_keeps_its_traceback(png):
    def faulty(record):
        raise KeyError("gone")

    with pytest.raises(KeyError):
        GuardedMapper(faulty, DEFAULT_MAX_PIXELS)({"file_name": str(png)})


def test_evaluation_needs_every_image():
    batches = EvaluationBatches([[{"image": 1}], [Unreadable("a.png", "is broken")]])
    assert len(batches) == 2
    with pytest.raises(DataError, match=r"^a\.png: is broken; an evaluation needs every image"):
        list(batches)


def test_evaluation_asks_before_each_batch():
    asked = []
    assert list(EvaluationBatches([[1], [2]], lambda: asked.append(1))) == [[1], [2]]
    assert len(asked) == 2
