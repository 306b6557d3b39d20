"""Images and video from a stranger: sizes that are claimed, programs that pass for pictures."""

import contextlib
import json
import os
import re

import matplotlib
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper, Metadata
from detectron2.structures import Boxes, Instances
from PIL import EpsImagePlugin, Image
from torch.utils.data import DataLoader

from softpool_det.classification.datasets import open_dataset
from softpool_det.coco.reading import read_ground_truth
from softpool_det.comparison.visualize import draw, visualize
from softpool_det.config import DEFAULT_MAX_PIXELS
from softpool_det.io.data_errors import DataError
from softpool_det.io.images import read_rgb
from softpool_det.report.gallery import gallery_rows
from softpool_det.training.guarded_mapper import GuardedMapper
from softpool_det.training.train_loader import TrainLoader

# A gigapixel and more, but less than OpenCV refuses by itself.
SIDE = 32000
CLAIM = rf"exceeds limit of \d+ pixels|{SIDE}x{SIDE}"


def never(_image):
    raise AssertionError("the image was decoded")


def post_script(marker):
    """A program that is said to draw something, and makes a file."""
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile\n"


@pytest.fixture
def ghostscript(marker, tmp_path, monkeypatch):
    """A gs on the PATH that does what such a program wants."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\n: > {marker}\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)


@pytest.mark.parametrize("in_folder", [False, True])
def test_visualize_decodes_no_forged_size(in_folder, forged_png, tmp_path):
    path = forged_png(tmp_path / "in" / "a.png", SIDE, SIDE)
    source = path.parent if in_folder else path
    output = tmp_path / "out" if in_folder else tmp_path / "out.png"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} .*({CLAIM})") as error:
        visualize(never, Metadata(), source, output)
    assert len(str(error.value).splitlines()) == 1
    assert not output.exists()


def test_visualize_reads_no_video_of_a_forged_size(tmp_path):
    """An AVI of no frame, with a header that claims a size (FFmpeg refuses larger ones itself)."""
    side = 14000

    def chunk(kind, data):
        return kind + len(data).to_bytes(4, "little") + data

    def numbers(*values):
        return b"".join(value.to_bytes(4, "little") for value in values)

    main = numbers(40000, 0, 0, 0x10, 1, 0, 1, 0, side, side, 0, 0, 0, 0)
    stream = b"vidsMJPG" + numbers(0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0)
    picture = numbers(40, side, side, 1 | 24 << 16) + b"MJPG" + numbers(0, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", picture))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + streams)
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", bytes(64)))
    path = tmp_path / "in.avi"
    path.write_bytes(chunk(b"RIFF", b"AVI " + header + movie))
    with pytest.raises(ValueError, match=re.escape(f"{path} has frames of {side}x{side} pixels")):
        visualize(never, Metadata(), path, tmp_path / "out.avi")


@pytest.mark.parametrize("workers", [0, 1])
def test_classifiers_decode_no_forged_size(workers, forged_png, tmp_path):
    path = forged_png(tmp_path / "train" / "class" / "a.png", SIDE, SIDE)
    dataset = open_dataset(str(tmp_path / "train"), never, "DATASETS.TRAIN")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} .*{CLAIM}") as error:
        list(DataLoader(dataset, num_workers=workers))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.usefixtures("ghostscript")
def test_post_script_is_no_image(marker, tmp_path):
    path = tmp_path / "train" / "class" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_text(post_script(marker))
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        visualize(never, Metadata(), path, tmp_path / "out.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        open_dataset(str(tmp_path / "train"), never, "")[0]
    assert not marker.exists()
    # It would have run: PIL itself takes such a file for an image.
    with Image.open(path) as image, contextlib.suppress(OSError):
        image.load()
    assert marker.exists()
    marker.unlink()


@pytest.mark.usefixtures("ghostscript")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name"])
def test_post_script_is_not_trained_on(key, workers, marker, tmp_path):
    names = {"file_name": str(tmp_path / "a.png"), key: str(tmp_path / "bad.png")}
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_text(post_script(marker))
    record = {**names, "height": 9, "width": 9, "annotations": []}
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    # It would run: Detectron2 itself takes such a file for an image.
    with contextlib.suppress(OSError):
        mapper(dict(record))
    assert marker.exists()
    marker.unlink()
    guarded = GuardedMapper(mapper, DEFAULT_MAX_PIXELS)
    loader = TrainLoader([record], mapper=guarded, total_batch_size=1, num_workers=workers, seed=0)
    with pytest.raises(DataError) as error:
        next(iter(loader))
    text = str(error.value)
    assert text.startswith(f"{names['file_name']}: cannot identify image file ")
    assert "bad.png" in text
    assert len(text.splitlines()) == 1
    assert not marker.exists()


def test_images_that_are_cut_off_are_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((99, 99, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: "):
        read_rgb(path)


@pytest.mark.parametrize("name", ["$\\evil{$", "\\write18{touch {}}", "$\\input{{}}$"])
def test_names_of_classes_are_text(name, marker, monkeypatch):
    """Even where the user's matplotlib would have TeX set them."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    instances = Instances((96, 128))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 50.0, 50.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.6]), torch.tensor([0])
    image = np.zeros((96, 128, 3), np.uint8)
    metadata = Metadata(thing_classes=[name.replace("{}", str(marker))])
    assert draw(image, instances, metadata, 0.5).any()


def ground_truth(folder, name):
    """A ground truth of one image."""
    image = {"id": 1, "file_name": name, "height": 9, "width": 9}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    path = folder / "truth.json"
    categories = [{"id": 1, "name": "a"}]
    truth = {"images": [image], "categories": categories, "annotations": [entry]}
    path.write_text(json.dumps(truth))
    return read_ground_truth(path)


@pytest.mark.parametrize("name", ["../secret.png", "{}/secret.png", "a/../../secret.png", ".."])
def test_annotations_put_no_other_picture_into_a_report(name, tmp_path):
    """A report is passed on; whoever wrote the annotations must not choose what is in it."""
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "images" / "a").mkdir(parents=True)
    name = name.format(tmp_path)
    truth = ground_truth(tmp_path, name)
    gain = {"candidate": "new", "image_id": 1, "baseline": 1.0, "candidate_ap": 2.0, "gain": 1.0}
    with pytest.raises(ValueError, match=re.escape(f"image {name!r} of the ground truth is not")):
        gallery_rows([gain], truth, {}, tmp_path / "images", thresholds={})


def test_report_decodes_no_forged_size(forged_png, tmp_path):
    forged_png(tmp_path / "a.png", SIDE, SIDE)
    truth = ground_truth(tmp_path, "a.png")
    gain = {"candidate": "new", "image_id": 1, "baseline": 1.0, "candidate_ap": 2.0, "gain": 1.0}
    with pytest.raises(ValueError, match=rf"a\.png .*{CLAIM}"):
        gallery_rows([gain], truth, {}, tmp_path, thresholds={})
