import functools
import json
import logging
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
from detectron2.data.datasets import load_coco_json
from pycocotools.coco import COCO

from softpool_det.datasets import MADE_DATASETS, digit_scenes
from softpool_det.datasets.cache import ensure_made

ALL = MADE_DATASETS
TREES = ALL["tree_crowns_val"]
DIGITS = ALL["digit_scenes_val"]
# The same with few scenes; its content is not the recorded one, which a log says.
FEW = replace(DIGITS, scenes=functools.partial(digit_scenes.plain_scenes, split="val", count=30))


def _start(dataset, root):
    """Another process that makes a data set."""
    # Forked: a new one would need seconds to import what it needs.
    process = multiprocessing.get_context("fork").Process(target=ensure_made, args=(dataset, root))
    process.start()
    return process


def _files(root, dataset):
    """Names, inodes and modification times: what stays when nothing is written."""
    paths = sorted((root / dataset.name).rglob("*"))
    return [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


def _is_clean(root):
    """No temporary folder is left."""
    return not [path for path in root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if "train" in name else []) for name in ALL],
)
def test_content_is_the_recorded_one(name, root, caplog):
    with caplog.at_level(logging.WARNING):
        ensure_made(ALL[name], root)
    assert not caplog.records
    assert _is_clean(root)


def test_made_twice_is_the_same(tmp_path, root):
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "wheels").symlink_to(root / "wheels")
        ensure_made(FEW, tmp_path / folder)
        files = sorted((tmp_path / folder / FEW.name).rglob("*.*"))
        made.append([(path.name, path.read_bytes()) for path in files])
    assert len(made[0]) == 32
    assert made[0] == made[1]


def test_coco_files_are_valid(root):
    ensure_made(FEW, root)
    coco = COCO(FEW.json_file(root))
    assert len(coco.imgs) == 30
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list("0123456789")
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=list(range(1, 20)))):
        assert coco.annToMask(annotation).sum() == annotation["area"]
    dicts = load_coco_json(str(FEW.json_file(root)), str(FEW.image_root(root)))
    assert all(os.path.exists(record["file_name"]) for record in dicts)


def test_whole_data_set_is_left_alone(root):
    ensure_made(TREES, root)
    before = _files(root, TREES)
    ensure_made(TREES, root)
    assert _files(root, TREES) == before


def _truncate(folder):
    image = folder / "images" / "000003.png"
    image.write_bytes(image.read_bytes()[:-10])


def _change_a_box(folder):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))


DAMAGE = {
    "truncated image": _truncate,
    "missing image": lambda folder: (folder / "images" / "000003.png").unlink(),
    "changed annotation": _change_a_box,
    "missing annotations": lambda folder: (folder / "annotations.json").unlink(),
    "missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    "truncated manifest": lambda folder: os.truncate(folder / "manifest.json", 100),
    "no manifest at all": lambda folder: (folder / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_noticed_and_mended(damage, root, caplog):
    ensure_made(TREES, root)
    folder = root / TREES.name
    whole = {path: path.read_bytes() for path in folder.rglob("*.*")}
    damage(folder)
    with caplog.at_level(logging.WARNING):
        ensure_made(TREES, root)
    assert "making the data set again" in caplog.text
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == whole
    assert _is_clean(root)


def test_another_recipe_is_made_again(root, caplog):
    ensure_made(replace(TREES, content_sha256="0" * 64), root)
    assert "recorded is " + "0" * 64 in caplog.text
    ensure_made(TREES, root)
    assert "another version" in caplog.text


def test_failure_leaves_nothing_behind(root):
    def broken(root):
        yield from TREES.scenes(root)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        ensure_made(replace(TREES, scenes=broken), root)
    assert not (root / TREES.name).exists()
    assert _is_clean(root)


def test_two_processes_at_once(root):
    processes = [_start(FEW, root) for _ in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    before = _files(root, FEW)
    assert len(before) == 33
    ensure_made(FEW, root)
    assert _files(root, FEW) == before
    assert _is_clean(root)


def test_killed_while_making(root):
    process = _start(DIGITS, root)
    deadline = time.monotonic() + 60
    while not list(root.glob(".*/made/images/0000[1-9]*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (root / DIGITS.name).exists()
    ensure_made(FEW, root)
    assert len(list(FEW.image_root(root).iterdir())) == 30
