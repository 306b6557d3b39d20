"""softpool_det.Predictor on the folder of a run, beside the run's own evaluation."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from running import RETINANET, TINY

import softpool_det
from softpool_det.config import load_config
from softpool_det.io.images import read_bgr
from softpool_det.io.video import frames, open_video


@pytest.fixture(scope="module")
def run(train_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_here("--config-file", RETINANET, *TINY, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", folder)
    return folder


@pytest.fixture(scope="module")
def truth(small_datasets):
    folder = small_datasets / "digit_scenes_val"
    images = json.loads((folder / "annotations.json").read_text())["images"]
    return {image["id"]: folder / "images" / image["file_name"] for image in images}


@pytest.fixture(scope="module")
def predictor(run):
    return softpool_det.Predictor(run)


def test_finds_what_the_evaluation_found(run, predictor, truth):
    want = json.loads((run / "inference" / "coco_instances_results.json").read_text())
    got = predictor.coco(list(truth.values()), list(truth))
    assert len(got) == len(want) > 10
    assert sorted(map(str, got)) == sorted(map(str, want))
    assert predictor.metadata.thing_classes == list("0123456789")


def test_takes_paths_pixels_and_lists(predictor, truth):
    paths = list(truth.values())[:2]
    one = predictor(paths[0])
    assert torch.equal(one.scores, predictor(str(paths[0])).scores)
    assert torch.equal(one.scores, predictor(read_bgr(paths[0])).scores)
    two = predictor(paths)
    assert [len(found) for found in two] == [len(one), len(predictor(paths[1]))]
    assert next(predictor.stream(iter(paths))).image_size == one.image_size
    assert predictor([]) == []


def test_takes_a_video(predictor, truth, tmp_path):
    images = [read_bgr(path) for path in list(truth.values())[:3]]
    height, width = images[0].shape[:2]
    code = cv2.VideoWriter_fourcc(*"FFV1")  # lossless
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), code, 10, (width, height))
    for image in images:
        writer.write(cv2.resize(image, (width, height)))
    writer.release()
    with open_video(tmp_path / "a.avi") as capture:
        read = list(frames(capture))
    found = list(predictor.video(tmp_path / "a.avi"))
    assert len(read) == len(found) == 3
    for frame, instances in zip(read, found, strict=True):
        assert torch.equal(instances.scores, predictor(frame).scores)
    with pytest.raises(FileNotFoundError, match=r"b\.avi does not exist"):
        next(predictor.video(tmp_path / "b.avi"))
    (tmp_path / "c.avi").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"c\.avi cannot be read"):
        next(predictor.video(tmp_path / "c.avi"))


def test_snippet_of_the_page(run, truth, own_data_page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "output/trees/SoftPool/seed_1")
    image = read_bgr(next(iter(truth.values())))
    cv2.imwrite("photo.jpg", image)
    writer = cv2.VideoWriter("street.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 10, image.shape[1::-1])
    writer.write(image)
    writer.release()
    namespace, _ = own_data_page.run("In your program")
    assert {entry["image_id"] for entry in namespace["results"]} == {1}
    # Of the video's frame.
    assert namespace["instances"].image_size == image.shape[:2]


def test_a_batch_at_a_time(run, predictor, truth):
    several = softpool_det.Predictor(run, batch_size=4)
    for one, other in zip(
        predictor(list(truth.values())), several(list(truth.values())), strict=True
    ):
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)


def test_a_folder_that_moved(run, truth, predictor, tmp_path):
    moved = softpool_det.Predictor(shutil.copytree(run, tmp_path / "moved"))
    path = next(iter(truth.values()))
    assert torch.equal(moved(path).scores, predictor(path).scores)


def test_without_the_data_it_was_trained_on(run, truth, tmp_path, caplog):
    folder = shutil.copytree(run, tmp_path / "run")
    words = ["DATASETS.TEST_JSON", "('gone.json',)", "DATASETS.TEST_IMAGES", "('gone',)"]
    # A wrong word of today's is another matter.
    with pytest.raises(ValueError, match=r"gone\.json is not a file"):
        softpool_det.Predictor(folder, overrides=words)
    cfg = load_config(str(folder / "config.yaml"), words)
    alone = softpool_det.Predictor(cfg, folder / "model_final.pth")
    assert "names of classes are not known" in caplog.text
    assert len(alone(next(iter(truth.values())))) > 0


def test_names_of_a_run_without_a_test_set(run, small_datasets):
    data = small_datasets / "digit_scenes_train"
    words = ["DATASETS.TRAIN_JSON", str((str(data / "annotations.json"),))]
    words += ["DATASETS.TRAIN_IMAGES", str((str(data / "images"),)), "DATASETS.TEST", "()"]
    found = softpool_det.Predictor(run, overrides=words)
    assert found.cfg.DATASETS.TEST == ()
    assert found.metadata.thing_classes == list("0123456789")


def test_says_what_is_missing(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither the config\.yaml of a run nor"):
        softpool_det.Predictor(tmp_path)
    other = tmp_path / "comparison" / "SoftPool" / "seed_1"
    other.mkdir(parents=True)
    shutil.copy(run / "config.yaml", other)
    with pytest.raises(FileNotFoundError, match=f"name a run of it, as {other}"):
        softpool_det.Predictor(tmp_path / "comparison")
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"weights .*model_final\.pth do not exist"):
        softpool_det.Predictor(tmp_path)
    (tmp_path / "config.yaml").write_text("model:\n  _target_: detectron2.X\n")
    with pytest.raises(ValueError, match=r"is a run of a LazyConfig: name its \.py file"):
        softpool_det.Predictor(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"weights no\.pth do not exist"):
        softpool_det.Predictor(run, weights="no.pth")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: name a run's folder, a "):
        softpool_det.Predictor("nowhere")
    with pytest.raises(FileNotFoundError, match=r"no\.onnx does not exist: name a run's folder"):
        softpool_det.Predictor(tmp_path / "no.onnx")
    (tmp_path / "no.onnx").touch()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/model\.json does not exist: an exp"):
        softpool_det.Predictor(tmp_path / "no.onnx")
    (tmp_path / "good.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"good\.json is neither a config \(\.yaml or \.py\)"):
        softpool_det.Predictor(tmp_path / "good.json")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        softpool_det.Predictor(run, batch_size=0)


def test_a_head_that_would_stay_random(run, train_here, lazy_config, tmp_path):
    """Fewer classes than were trained, as without the run's data; another model's weights."""
    classes, weights = ["MODEL.RETINANET.NUM_CLASSES", "5"], run / "model_final.pth"
    message = "NUM_CLASSES .*is 5, the checkpoint has 10"
    with pytest.raises(ValueError, match=message):
        softpool_det.Predictor(run, overrides=classes)
    evaluate = ("--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "yaml")
    with pytest.raises(SystemExit, match=message):
        train_here("--config-file", run / "config.yaml", *evaluate, *classes)
    (tmp_path / "tiny.py").write_text(lazy_config)
    evaluate = ("--eval-only", "--trust-lazy-config", f"train.init_checkpoint={weights}")
    evaluate += (f"train.output_dir={tmp_path / 'lazy'}", "train.device=cpu")
    with pytest.raises(SystemExit, match=r"MODEL\.FPN\.OUT_CHANNELS .* is 256, .* has 16"):
        train_here("--config-file", tmp_path / "tiny.py", *evaluate)
    assert not list(tmp_path.glob("*/evaluation.json"))


def test_wrong_images(predictor, tmp_path):
    with pytest.raises(FileNotFoundError):
        predictor(tmp_path / "none.png")
    with pytest.raises(ValueError, match="it is a folder; give a list of the files in it"):
        predictor(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png"):
        predictor(tmp_path / "text.png")
    pixels = np.zeros((64, 64, 3), np.uint8)
    for wrong, found in (
        (pixels / 255, r"float64 \(64, 64, 3\)"),
        (pixels[..., 0], r"uint8 \(64, 64\)"),
        (pixels[:0], r"uint8 \(0, 64, 3\)"),
        (Image.fromarray(pixels), "Image"),
        ([7], "int"),
    ):
        with pytest.raises(ValueError, match=rf"BGR pixels, uint8 \(H, W, 3\), got {found}"):
            predictor(wrong)
    with pytest.raises(ValueError, match="1 images and 2 image_ids"):
        predictor.coco([pixels], [1, 2])


def test_takes_a_config_that_was_read(run, predictor, truth):
    cfg = load_config(str(run / "config.yaml"))
    path = next(iter(truth.values()))
    assert torch.equal(softpool_det.Predictor(cfg)(path).scores, predictor(path).scores)
