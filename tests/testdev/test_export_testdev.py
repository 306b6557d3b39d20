"""tools/export_testdev.py as a user runs it: a real model, real images, files of all sizes."""

import json
import os
import re
import runpy
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from pycocotools import mask as mask_utils

from softpool_det.config import load_config
from softpool_det.training import Trainer

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "export_testdev.py"
YAML = ROOT / "configs/demo/digits_mask_rcnn_softpool_R_18_FPN.yaml"
NAME = "detections_test-dev2017_tiny_results"
# 80 classes, as the data set has. An untrained model is sure of nothing.
TINY = [
    *("MODEL.ROI_HEADS.NUM_CLASSES", 80, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("MODEL.FPN.OUT_CHANNELS", 16, "INPUT.MIN_SIZE_TEST", 64, "MODEL.DEVICE", "cpu"),
]


@pytest.fixture
def here(monkeypatch, capsys):
    """Runs the program in this process: a new one takes seconds to import what the model needs."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        return status.value.code, "".join(capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def testdev(small_datasets, environment, tmp_path_factory):
    """$DETECTRON2_DATASETS with a test-dev of digit scenes; the environment that points there."""
    source = small_datasets / "digit_scenes_val"
    root = tmp_path_factory.mktemp("testdev")
    coco = root / "coco"
    (coco / "annotations").mkdir(parents=True)
    os.symlink(source / "images", coco / "test2017")
    images = json.loads((source / "annotations.json").read_text())["images"]
    categories = [
        {"id": c["id"], "name": c["name"], "supercategory": ""}
        for c in COCO_CATEGORIES
        if c["isthing"]
    ]
    info = {"images": images, "categories": categories}
    (coco / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(info))
    return {**environment, "DETECTRON2_DATASETS": str(root), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(1)
    model = Trainer.build_model(load_config(str(YAML), [str(value) for value in TINY]))
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def exported(testdev, weights, tmp_path_factory):
    """The folder, and what the program printed."""
    folder = tmp_path_factory.mktemp("exported")
    command = [sys.executable, PROGRAM, "--config-file", YAML, "--weights", weights]
    command += ["--alg", "tiny", "--output", folder, *TINY]
    done = subprocess.run(
        list(map(str, command)),
        env=testdev,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.fixture
def info(testdev):
    annotations = Path(testdev["DETECTRON2_DATASETS"], "coco", "annotations")
    return ["--image-info", annotations / "image_info_test-dev2017.json"]


def test_runs_a_model(exported):
    folder, output = exported
    entries = json.loads((folder / f"{NAME}.json").read_text())
    assert len(entries) > 100
    assert {entry["image_id"] for entry in entries} == set(range(1, 7))
    assert {"bbox", "segmentation"} <= set(entries[0])
    # Ids of COCO, not indices: there is none between 80 and 90 among the latter.
    assert max(entry["category_id"] for entry in entries) > 80
    with zipfile.ZipFile(folder / f"{NAME}.zip") as archive:
        assert json.loads(archive.read(f"{NAME}.json")) == entries
    assert f"{len(entries):,} entries" in output
    assert "valid: no violations" in output
    assert f"written: {folder / NAME}.zip" in output


@pytest.mark.parametrize("suffix", [".json", ".zip"])
def test_what_was_written_is_valid(exported, here, info, suffix):
    status, output = here("--validate", exported[0] / (NAME + suffix), *info)
    assert status == 0
    assert output.splitlines()[-1] == "valid: no violations"


def test_takes_results(exported, here, info, tmp_path):
    results = exported[0] / "inference" / "coco_instances_results.json"
    status, output = here("--results", results, "--alg", "tiny", "--output", tmp_path, *info)
    assert status == 0, output
    for suffix in (".json", ".zip"):
        name = NAME + suffix
        assert (tmp_path / name).read_bytes() == (exported[0] / name).read_bytes()


def test_results_that_are_not_valid_are_not_written(exported, here, info, tmp_path):
    entries = json.loads((exported[0] / f"{NAME}.json").read_text())
    entries[3]["category_id"] = 0
    results = tmp_path / "results.json"
    results.write_text(json.dumps(entries))
    folder = tmp_path / "out"
    status, output = here("--results", results, "--alg", "tiny", "--output", folder, *info)
    assert status == 1
    assert "NOT VALID: 1 violations (category_id 1)" in output
    assert re.search(r"entry 3 \(image \d\): category_id is 0, must be", output)
    assert "Nothing was written." in output
    assert not folder.exists()


@pytest.mark.parametrize("mode", ["validate", "run"])
def test_missing_coco(exported, weights, here, tmp_path, mode):
    folder = tmp_path / "coco" / "annotations"
    json_file = folder / "image_info_test-dev2017.json"
    name = f"missing_testdev_{mode}"
    register_coco_instances(name, {}, str(json_file), str(tmp_path / "coco" / "test2017"))
    arguments = ["--validate", exported[0] / f"{NAME}.zip"]
    if mode == "run":
        arguments = ["--config-file", YAML, "--weights", weights, "--alg", "tiny"]
        arguments += ["--output", tmp_path / "out"]
    status, _ = here(*arguments, "--dataset", name, *(TINY if mode == "run" else []))
    first = str(status).splitlines()[0]
    assert first.startswith(f"error: {name}: {json_file.name} is missing, it belongs in {folder};")
    assert "image_info_test2017.zip" in first


def test_dataset_that_nobody_knows(exported, here):
    status, _ = here("--validate", exported[0] / f"{NAME}.zip", "--dataset", "nonesuch")
    assert "no data set 'nonesuch' is registered" in status


def test_alg_that_cannot_be_a_name(here):
    """Said before the model runs: the weights are not even looked for."""
    status, _ = here("--config-file", "x.yaml", "--weights", "x.pth", "--alg", "a b")
    assert status.startswith("error: alg must be letters")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "x.json"], "--alg is missing"),
        (["--config-file", "x.yaml", "--alg", "x"], "--config-file and --weights go together"),
        (["--validate", "x.json", "SEED", "1"], "SEED 1: overrides need --config-file"),
        ([], "one of the arguments --config-file --results --validate is required"),
    ],
)
def test_wrong_command_lines(here, arguments, said):
    status, output = here(*arguments)
    assert status == 2
    assert said in output


IMAGES = 20288
# Not ru_maxrss, for it counts the memory of pytest, from which this process was forked, as well.
WATCH = """
import pathlib, runpy, sys, time
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    peak = status.partition("VmHWM:")[2].split()[0]
    print("peak", peak, "KiB,", round(time.process_time()), "CPU seconds")
"""


def write_mask_rcnn_results(path, info_path):
    """2,028,800 detections with masks on 20,288 images: the size of a real Mask R-CNN's file."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:480, :640]
    bodies = []
    for _ in range(200):
        x, y = random.integers(0, [400, 240])
        width, height = random.integers(110, 240, 2)
        waves = 4 * np.sin(columns / 9) + 3 * np.sin(rows / 7)
        inside = (
            np.hypot((columns - x) / width * 2 - 1, (rows - y) / height * 2 - 1) < 1 + waves / 60
        )
        rle = mask_utils.encode(np.asfortranarray(inside.astype(np.uint8)))
        bodies.append(
            f'"category_id": {random.integers(1, 81)}, "bbox": '
            f"{[float(value) + random.random() / 10 for value in mask_utils.toBbox(rle)]}, "
            f'"score": {random.random()}, "segmentation": '
            + json.dumps({"size": [480, 640], "counts": rle["counts"].decode()})
        )
    with path.open("w") as file:
        for image in range(IMAGES):
            chosen = random.integers(0, len(bodies), 100)
            entries = (f'{{"image_id": {image}, {bodies[i]}}}' for i in chosen)
            file.write(("[" if image == 0 else ", ") + ", ".join(entries))
        file.write("]")
    images = [{"id": i, "height": 480, "width": 640} for i in range(IMAGES)]
    categories = [{"id": i} for i in range(1, 81)]
    info_path.write_text(json.dumps({"images": images, "categories": categories}))


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [False, True])
def test_file_of_a_mask_rcnn(environment, tmp_path, zipped):
    """1.2 GB pass in far less than 4 GB of memory."""
    path, info = tmp_path / f"{NAME}.json", tmp_path / "info.json"
    write_mask_rcnn_results(path, info)
    size = path.stat().st_size
    assert size > 1.2e9
    if zipped:
        with zipfile.ZipFile(tmp_path / f"{NAME}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
        path.unlink()
        path = tmp_path / f"{NAME}.zip"
    command = [sys.executable, "-c", WATCH, PROGRAM]
    command += ["--validate", path, "--image-info", info]
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    print(done.stdout, f"{seconds:.0f} s")
    assert "valid: no violations" in done.stdout, done.stdout + done.stderr
    assert "2,028,800 entries" in done.stdout
    assert int(re.search(r"peak (\d+)", done.stdout)[1]) < 1.5 * 2**20
