"""Pictures of every mode: the right pixels by every reader, or the reason why not."""

import logging
import re
import struct

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from softpool_det.classification.datasets import open_dataset
from softpool_det.config import DEFAULT_MAX_PIXELS
from softpool_det.io import images
from softpool_det.io.images import (
    ImageError,
    explain_size,
    load_image,
    read_bgr,
    read_header,
    read_rgb,
)
from softpool_det.training.guarded_mapper import GuardedMapper, Unreadable

HEIGHT, WIDTH = 20, 30
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
GREY = RGB[..., 0]
RGB16 = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH, 3), dtype=np.uint16)
GREY16 = RGB16[..., 0]
BITS = GREY > 100
PALETTE = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)

# How numpy turns what is stored into what is shown, by EXIF orientation.
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pillow(image, suffix, **options):
    return suffix, lambda path: image.save(path, **options)


def opencv(array, suffix):
    stored = array[..., ::-1] if array.ndim == 3 else array
    return suffix, lambda path: cv2.imwrite(str(path), stored)


def paletted(mode="P"):
    image = Image.fromarray(GREY, "L")
    image.putpalette(PALETTE.tobytes())
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.fromarray(ALPHA))
    return image


def tiff(data, bits, order="<", photometric=1, sample_format=1, orientation=1):
    """One grey page, uncompressed: what neither Pillow nor OpenCV writes."""
    values = {256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: photometric, 273: 8}
    if photometric is None:
        del values[262]
    values |= {274: orientation, 277: 1, 278: HEIGHT, 279: len(data), 339: sample_format}
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    content += data + struct.pack(f"{order}H", len(values))
    for tag, value in values.items():  # all as 32-bit numbers, which have one place in both orders
        content += struct.pack(f"{order}HHII", tag, 4, 1, value)
    return ".tif", lambda path: path.write_bytes(content + bytes(4))


def packed12(values):
    first, second = values.reshape(-1, 2).T.astype(int)
    parts = (first >> 4, (first & 15) << 4 | second >> 8, second & 255)
    return np.stack(parts, axis=1).astype(np.uint8).tobytes()


def pages(suffix, **options):
    image = Image.fromarray(RGB)
    return pillow(image, suffix, save_all=True, append_images=[image.rotate(180)], **options)


def pyramid(path):
    image, half = Image.fromarray(RGB), Image.fromarray(RGB[::2, ::2])
    half.encoderinfo = {"tiffinfo": {254: 1}}
    image.save(path, save_all=True, append_images=[half])


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


CMYK = np.dstack([255 - RGB, np.zeros_like(ALPHA)])

# (suffix and how it is written, the right RGB pixels)
RIGHT = {
    "1": (pillow(Image.fromarray(BITS), ".png"), grey(BITS * 255)),
    "1, TIFF": (pillow(Image.fromarray(BITS), ".tif"), grey(BITS * 255)),
    "L": (pillow(Image.fromarray(GREY), ".png"), grey(GREY)),
    "L, TIFF, white is 0": (tiff(GREY.tobytes(), 8, photometric=0), grey(255 - GREY)),
    "LA": (pillow(Image.fromarray(np.dstack([GREY, ALPHA])), ".png"), grey(GREY)),
    "P": (pillow(paletted(), ".png"), PALETTE[GREY]),
    "P, transparent": (pillow(paletted(), ".png", transparency=3), PALETTE[GREY]),
    "P, alphas": (pillow(paletted(), ".png", transparency=PALETTE[:, 0].tobytes()), PALETTE[GREY]),
    "P, GIF": (pillow(paletted(), ".gif"), PALETTE[GREY]),
    "PA": (pillow(paletted("PA"), ".tif"), PALETTE[GREY]),
    "RGB": (pillow(Image.fromarray(RGB), ".png"), RGB),
    "RGB, BMP": (pillow(Image.fromarray(RGB), ".bmp"), RGB),
    "RGB, WebP": (pillow(Image.fromarray(RGB), ".webp", lossless=True), RGB),
    "RGBA": (pillow(Image.fromarray(np.dstack([RGB, ALPHA])), ".png"), RGB),
    "RGBA, TIFF": (pillow(Image.fromarray(np.dstack([RGB, ALPHA])), ".tif"), RGB),
    "CMYK": (pillow(Image.fromarray(CMYK, "CMYK"), ".tif"), RGB),
    "I;16, PNG": (opencv(GREY16, ".png"), grey(GREY16 >> 8)),
    "I;16, TIFF": (opencv(GREY16, ".tif"), grey(GREY16 >> 8)),
    "I;16, uncompressed": (tiff(GREY16.astype("<u2").tobytes(), 16), grey(GREY16 >> 8)),
    "I;16B": (tiff(GREY16.astype(">u2").tobytes(), 16, ">"), grey(GREY16 >> 8)),
    "I;16, white is 0": (
        tiff(GREY16.astype("<u2").tobytes(), 16, photometric=0),
        grey(255 - (GREY16 >> 8)),
    ),
    "I;16, nothing says what white is": (
        tiff(GREY16.astype("<u2").tobytes(), 16, photometric=None),
        grey(255 - (GREY16 >> 8)),
    ),
    "12 bits": (tiff(packed12(GREY16 >> 4), 12), grey(GREY16 >> 8)),
    "I, 16 bits in PGM": (opencv(GREY16, ".pgm"), grey(GREY16 >> 8)),
    "RGB of 16 bits": (opencv(RGB16, ".png"), RGB16 >> 8),
    "RGB of 16 bits, TIFF": (opencv(RGB16, ".tif"), RGB16 >> 8),
    "RGBA of 16 bits": (opencv(np.dstack([GREY16, RGB16]), ".png"), (RGB16 >> 8)),
    "reduced copies": ((".tif", pyramid), RGB),
}
# JPEG's and YCbCr's rounding.
NEAR = {
    "YCbCr": pillow(Image.fromarray(RGB).convert("YCbCr"), ".tif"),
    "JPEG": pillow(Image.fromarray(RGB), ".jpg", quality=100, subsampling=0),
    "CMYK, JPEG": pillow(Image.fromarray(CMYK, "CMYK"), ".jpg", quality=100, subsampling=0),
    "a phone's previews": pages(".mpo", quality=100, subsampling=0),
}
RANGE = "does not say which value is white; save it as RGB or grey with 8 bits a channel"
FRAMES = "it has 2 frames or pages; save the one you want as a file of its own"
SIGNED = tiff(GREY16.astype("<i2").tobytes(), 16, sample_format=2)
REFUSED = {
    "I": (opencv(GREY16.astype(np.int32), ".tif"), f"Pillow's mode I {RANGE}"),
    "I, signed": (SIGNED, f"Pillow's mode I {RANGE}"),
    "F": (opencv(GREY16.astype(np.float32), ".tif"), f"Pillow's mode F {RANGE}"),
    "F, PFM": (pillow(Image.fromarray(GREY16.astype(np.float32)), ".pfm"), f"mode F {RANGE}"),
    "LAB": (pillow(Image.fromarray(RGB, "LAB"), ".tif"), f"mode LAB {RANGE}"),
    "RGB of floats": (opencv(RGB16.astype(np.float32), ".tif"), "image"),
    **{f"pages, {suffix}": (pages(suffix), FRAMES) for suffix in (".tif", ".gif", ".webp")},
    "pages, .png": (pages(".png"), FRAMES),
}


def by_training(path):
    """Detectron2's own mapper, as the loaders of a training and an evaluation call it."""
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    found = GuardedMapper(mapper, DEFAULT_MAX_PIXELS)({"file_name": str(path), "annotations": []})
    if isinstance(found, Unreadable):
        raise ValueError(f"{found.file_name} {found.reason}")
    return found["image"].numpy().transpose(1, 2, 0)[..., ::-1]


def by_classifier(path):
    return np.asarray(open_dataset(str(path.parents[1]), lambda image: image, "")[0][0])


READERS = {
    "report": lambda path: np.asarray(read_rgb(path)),
    "training": by_training,
    "visualize": lambda path: read_bgr(path)[..., ::-1],
    "classifier": by_classifier,
}


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def write(tmp_path, suffix, save):
    # ImageFolder knows files by their suffix, readers by their content.
    path = tmp_path / "class" / f"image{suffix if suffix in ('.jpg', '.tif', '.webp') else '.png'}"
    path.parent.mkdir(exist_ok=True)
    written = path.with_name(f"image{suffix}")
    save(written)
    return written.rename(path)


@pytest.mark.parametrize(("file", "expected"), RIGHT.values(), ids=RIGHT)
def test_pixels_are_right(reader, file, expected, tmp_path):
    found = reader(write(tmp_path, *file))
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("file", NEAR.values(), ids=NEAR)
def test_pixels_are_near(reader, file, tmp_path):
    found = reader(write(tmp_path, *file)).astype(int)
    assert np.abs(found - RGB).mean() < 2


@pytest.mark.parametrize(("file", "reason"), REFUSED.values(), ids=REFUSED)
def test_other_pixels_are_refused(reader, file, reason, tmp_path):
    path = write(tmp_path, *file)
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        reader(path)
    text = str(error.value)
    assert text.startswith(f"{path} cannot ")
    assert "\n" not in text


def turned(suffix, orientation):
    if suffix == ".jpg":
        stored = Image.fromarray(np.kron(GREY, np.ones((8, 8), np.uint8)))
        return suffix, lambda path: stored.save(path, exif=exif(orientation), quality=100)
    if suffix == "16":
        return tiff(GREY16.astype("<u2").tobytes(), 16, orientation=orientation)
    return pillow(Image.fromarray(RGB), suffix, exif=exif(orientation))


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", [".png", ".tif", "16"])
def test_images_are_turned_as_exif_says(reader, suffix, orientation, tmp_path):
    """Of a TIFF Pillow turns itself, Detectron2 would undo or double the turn."""
    path = write(tmp_path, *turned(suffix, orientation))
    expected = SHOWN[orientation](grey(GREY16 >> 8) if suffix == "16" else RGB)
    assert np.array_equal(reader(path), expected)
    assert read_header(path) == ((expected.shape[1], expected.shape[0]), orientation)


ORDINARY = ["L", "LA", "P", "P, transparent", "RGB", "RGBA", "CMYK", "RGB, WebP", "RGB, BMP"]


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L"])
@pytest.mark.parametrize(
    "file",
    [*(RIGHT[name][0] for name in ORDINARY), NEAR["JPEG"], turned(".jpg", 6), turned(".png", 8)],
)
def test_ordinary_images_have_detectron2s_bits(file, image_format, tmp_path):
    path = write(tmp_path, *file)
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format=image_format)
    found = GuardedMapper(mapper, DEFAULT_MAX_PIXELS)({"file_name": str(path)})
    expected = detectron2_read_image(str(path), image_format)
    assert np.array_equal(found["image"].numpy(), expected.transpose(2, 0, 1))
    assert DatasetMapper.__call__.__globals__["utils"].read_image is detectron2_read_image


def test_twelve_bits_in_sixteen_are_told_once(tmp_path, monkeypatch, caplog):
    """Of 65535 they are nearly nothing; nothing in the file says which number is white."""
    monkeypatch.setattr(images, "_warned", set())
    path = write(tmp_path, *opencv(GREY16 >> 4, ".png"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert np.array_equal(np.asarray(load_image(path)), GREY16 >> 12)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path} has 16 bits but no value above 40")


def test_damaged_exif_turns_nothing(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(read_rgb(path)), RGB)


def test_size_of_an_annotation(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif(6))
    assert explain_size(path, (HEIGHT, WIDTH)) is None
    assert explain_size(path, (7, 9)) == "it is 20x30 pixels, its annotation says 7x9"
    assert explain_size(path, (WIDTH, HEIGHT)) == (
        "it is 20x30 pixels, its annotation says 30x20: that is the stored size, but EXIF "
        "orientation 6 turns the image. If the boxes are in stored pixels, remove the tag from the "
        "file; otherwise swap width and height in the annotation"
    )
    with pytest.raises(FileNotFoundError):
        explain_size(tmp_path / "b.png", (7, 9))
    with pytest.raises(ImageError, match="cannot be read as an image"):
        explain_size(tmp_path, (7, 9))
