"""What ends a run says one line; what is left out is listed."""

import functools
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import (
    PROGRAM,
    RETINANET,
    TINY,
    arguments,
    assert_same,
    cut,
    edit,
    first_image,
    last_checkpoint,
    result,
)

pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")


@pytest.fixture
def train(monkeypatch, tmp_path, one_thread):
    """Run the program here; gives the status and the last line."""

    def run(*options, iterations=5, resume=False):
        output = tmp_path / "output"
        sets = ["DATASETS.TRAIN", ("bad_runs_train",), "DATASETS.TEST", ("bad_runs_val",)]
        changes = [*TINY, *sets, "SOLVER.MAX_ITER", iterations, "OUTPUT_DIR", output]
        flags = ["--resume"] if resume else []
        argv = [str(PROGRAM), *flags, *arguments(RETINANET, *changes, *options)]
        monkeypatch.setattr(sys, "argv", argv)
        try:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        except SystemExit as error:
            return str(error.code)
        return ""

    return run


def negative_box(content):
    content["annotations"][0]["bbox"][2] = -5


def test_corrupt_image(data, train, caplog):
    image = first_image(data / "train")
    cut(image)
    end = train()
    assert end.startswith(f"error: {image}: ")
    assert "\n" not in end
    assert end.endswith("INPUT.SKIP_CORRUPT True leaves out what cannot be read")
    assert not [record for record in caplog.records if record.exc_info]


def test_corrupt_image_with_workers(data, train, caplog):
    cut(first_image(data / "train"))
    assert train("DATALOADER.NUM_WORKERS", 1).startswith(f"error: {first_image(data / 'train')}: ")
    assert not [record for record in caplog.records if record.exc_info]


def test_corrupt_data_are_left_out_and_listed(data, train, tmp_path):
    image = first_image(data / "train")
    image.unlink()
    edit(data / "train" / "annotations.json", negative_box)
    assert train("INPUT.SKIP_CORRUPT", True) == ""
    skipped = json.loads((tmp_path / "output" / "skipped.json").read_text())
    assert skipped["count"] == 2
    assert skipped["skipped"][str(image)] == "file not found"
    entry = next(name for name in skipped["skipped"] if "entry 0 of annotations" in name)
    assert "a width and a height of 0 or more" in skipped["skipped"][entry]
    assert result(tmp_path / "output")["metrics"]["bbox"]["AP"] >= 0


def incomplete(content):
    """What exporters leave out, with ids in text that have the order of the numbers."""
    for image in content["images"]:
        image |= {"id": f"image {image['id']:03}", "height": None, "width": None}
    for annotation in content["annotations"]:
        annotation |= {"image_id": f"image {annotation['image_id']:03}", "id": annotation["id"] - 1}
        del annotation["area"], annotation["iscrowd"]


def test_sixteen_bits_and_incomplete_annotations(data, train, tmp_path):
    """The weights and the AP of a training on the same pictures in 8 bits, with all entries."""
    images = [image for part in ("train", "val") for image in (data / part / "images").iterdir()]
    for image in images:
        Image.open(image).convert("L").save(image)
    assert train(iterations=2) == ""
    expected = (tmp_path / "output").rename(tmp_path / "expected")
    for image in images:
        grey = np.asarray(Image.open(image)).astype(np.uint16)
        Image.fromarray(grey * 257).save(image)
        assert Image.open(image).mode in ("I;16", "I")
    for part in ("train", "val"):
        edit(data / part / "annotations.json", incomplete)
    assert train(iterations=2) == ""
    weights = [
        torch.load(at / "model_final.pth")["model"] for at in (tmp_path / "output", expected)
    ]
    assert_same(*weights)
    metrics = [result(at)["metrics"]["bbox"] for at in (tmp_path / "output", expected)]
    assert metrics[0] == pytest.approx(metrics[1], nan_ok=True)


@pytest.mark.slow
def test_list_is_of_all_parts_of_a_run(data, train, tmp_path):
    """The image is whole again when the run resumes: what was left out before is listed still."""
    image = first_image(data / "train")
    content = image.read_bytes()
    cut(image)
    # 8 images, 2 a batch: all of them are seen in 4 iterations.
    skip = ["INPUT.SKIP_CORRUPT", True]
    assert train(*skip, "SOLVER.CHECKPOINT_PERIOD", 4, iterations=4) == ""
    image.write_bytes(content)
    (tmp_path / "output" / "skipped.json").unlink()
    assert train(*skip, iterations=5, resume=True) == ""
    skipped = json.loads((tmp_path / "output" / "skipped.json").read_text())
    assert list(skipped["skipped"]) == [str(image)]
    # A new run in the same folder has a list of its own, here none.
    assert train(*skip, iterations=1) == ""
    assert not (tmp_path / "output" / "skipped.json").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["DATASETS.TRAIN", ("nope",)], "no data set 'nope' is registered"),
        (["SOLVER.OPTIMIZER", "Adam"], "SOLVER.OPTIMIZER must be SGD or AdamW, got 'Adam'"),
        (["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "int8"], "SOLVER.AMP.DTYPE must be"),
        (["MODEL.META_ARCHITECTURE", "Nope"], "No object named 'Nope' found"),
    ],
)
def test_faulty_config(data, train, options, reason):
    end = train(*options)
    assert end.startswith(f"error: {reason}")
    assert "\n" not in end


def test_malicious_weights(data, train, tmp_path):
    path, marker = tmp_path / "model.pth", tmp_path / "marker"
    torch.save({"model": functools.partial(Path.mkdir, marker)}, path)
    end = train("MODEL.WEIGHTS", path)
    assert end.startswith(f"error: {path} holds more than tensors and plain values")
    assert "\n" not in end
    assert not marker.exists()


def test_nothing_to_train_on(data, train):
    path = data / "train" / "annotations.json"
    edit(path, lambda content: content["annotations"].clear())
    end = train()
    assert (
        end == "error: DATASETS.TRAIN bad_runs_train: it has no object to train on; annotate some"
    )


@pytest.mark.parametrize("part", ["train", "val"])
def test_faulty_annotation(data, train, part):
    path = data / part / "annotations.json"
    edit(path, negative_box)
    assert train().startswith(f"error: {path}: entry 0 of annotations (id 1, image_id 1): bbox is")


def test_corrupt_image_in_the_evaluation(data, train, tmp_path):
    """After a whole training: its weights are there, AP is not."""
    image = first_image(data / "val")
    cut(image)
    end = train("INPUT.SKIP_CORRUPT", True)
    assert end.startswith(f"error: {image}: ")
    assert "an evaluation needs every image" in end
    assert (tmp_path / "output" / "model_final.pth").is_file()
    assert not (tmp_path / "output" / "result.json").exists()


def test_loss_that_is_not_finite(data, train, tmp_path, caplog):
    end = train("SOLVER.BASE_LR", 1e20, "SOLVER.WARMUP_ITERS", 0, iterations=20)
    assert end.startswith("error: the loss is not finite in iteration ")
    assert "\n" not in end
    assert end.count(".png") >= 2
    assert not [record for record in caplog.records if record.exc_info]
    (folder,) = (tmp_path / "output").glob("bad_batch_*")
    assert str(folder) in end
    assert len(list(folder.glob("*.png"))) == 2
    batch = torch.load(folder / "batch.pth", weights_only=True)
    assert len(batch["images"]) == 2
    assert all(Path(image["file_name"]).is_file() for image in batch["images"])
    assert batch["images"][0]["image"].dtype == torch.uint8


def test_output_folder_that_cannot_be_written(data, train, tmp_path):
    (tmp_path / "output").write_text("a file is in the way")
    end = train()
    assert end.startswith(f"error: the output folder {tmp_path / 'output'} cannot be written to: ")


def test_read_only_disk(data, train, small_disk):
    folder = small_disk(4, "ro")
    end = train("OUTPUT_DIR", folder / "run")
    assert end.startswith(
        f"error: the output folder {folder / 'run'} cannot be written to: Read-on"
    )


def test_full_disk(data, train, small_disk):
    """The second checkpoint finds no place: the first stays, whole, and nothing of the second."""
    folder = small_disk(150)
    end = train("OUTPUT_DIR", folder / "run", "SOLVER.CHECKPOINT_PERIOD", 2, iterations=8)
    assert end.startswith(f"error: {folder / 'run' / 'model_'}")
    assert "MiB are free now" in end
    assert "\n" not in end
    iteration = last_checkpoint(folder / "run")
    kept = [folder / "run" / f"model_{i:07d}.pth" for i in range(1, iteration + 1, 2)]
    assert sorted((folder / "run").glob("*.pth")) == kept
    assert torch.load(kept[-1])["iteration"] == iteration
    assert not list((folder / "run").glob(".partial-*"))
