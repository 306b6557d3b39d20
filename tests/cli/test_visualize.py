"""Detections drawn on images and videos."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.data.datasets import load_coco_json
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances

from softpool_det.comparison.visualize import (
    VIDEO_CODECS,
    draw,
    draw_ground_truth,
    visualize,
)
from softpool_det.config import load_config
from softpool_det.datasets import register_datasets
from softpool_det.training import Trainer
from softpool_det.training.predictor import Predictor, dataset_metadata

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "visualize.py"
DIGITS = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
R50 = ROOT / "configs/COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml"
LAZY_R50 = ROOT / "configs/lazy/retinanet_softpool_R_50_FPN_1x.py"
# An untrained model finds nothing with any confidence: a threshold of 0 keeps what there is.
UNTRAINED = ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "INPUT.MIN_SIZE_TEST", 64]
UNTRAINED += ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
METADATA = Metadata(thing_classes=["cat", "dog"])

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(height=96, width=128):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def find_one(image):
    """A predictor: one dog, of score 0.6, in the middle of every image."""
    height, width = image.shape[:2]
    instances = Instances((height, width))
    box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
    instances.pred_boxes = Boxes(torch.tensor([box]))
    instances.scores = torch.tensor([0.6])
    instances.pred_classes = torch.tensor([1])
    return instances


def save_weights(cfg, path):
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    # Batch norms that do something, as after training.
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.normal_()
    torch.save({"model": model.state_dict()}, path)
    return str(path)


def assert_equal(found, expected):
    assert len(expected) > 0
    assert found.image_size == expected.image_size
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_predictor_is_detectron2s(image_format, tmp_path):
    cfg = load_config(str(DIGITS), [*UNTRAINED, "INPUT.FORMAT", image_format])
    weights = save_weights(cfg, tmp_path / "model.pth")
    image = picture()
    found = Predictor(cfg, weights)(image)
    cfg = load_config(str(DIGITS), [*UNTRAINED, "INPUT.FORMAT", image_format])
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights
    expected = DefaultPredictor(cfg)(image)["instances"]
    # The demo's models are channels_last, Detectron2's predictor leaves them as they are.
    assert len(expected) > 0
    assert torch.equal(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_predictor_of_a_lazy_config(tmp_path):
    cfg = load_config(str(R50), UNTRAINED)
    weights = save_weights(cfg, tmp_path / "model.pth")
    overrides = ["model.test_score_thresh=0.0", "train.device=cpu"]
    lazy = load_config(str(LAZY_R50), overrides, trust_lazy_config=True)
    lazy.dataloader.test.mapper.augmentations[0].short_edge_length = 64
    image = picture()
    assert_equal(Predictor(lazy, weights)(image), Predictor(cfg, weights)(image))


def test_other_channel_order():
    cfg = load_config(str(DIGITS), [*UNTRAINED, "INPUT.FORMAT", "L"])
    with pytest.raises(ValueError, match="must be RGB or BGR, got 'L'"):
        Predictor(cfg, "")


def test_metadata_has_the_class_names():
    register_datasets()
    assert dataset_metadata(load_config(str(DIGITS))).thing_classes == list("0123456789")
    for config in (R50, LAZY_R50):
        cfg = load_config(str(config), trust_lazy_config=True)
        assert len(dataset_metadata(cfg).thing_classes) == 80
    # Without a test set, those of the training set.
    empty = load_config(str(DIGITS), ["DATASETS.TEST", ()])
    assert dataset_metadata(empty).name == "digit_scenes_train"
    empty = load_config(str(DIGITS), ["DATASETS.TEST", (), "DATASETS.TRAIN", ()])
    assert dataset_metadata(empty).get("thing_classes") is None


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((96, 128), (512, 682)), ((128, 128), (512, 512)), ((600, 700), (600, 700))],
)
def test_draw_enlarges_small_images(size, drawn):
    image = picture(*size)
    before = image.copy()
    result = draw(image, find_one(image), METADATA, 0.5)
    assert result.dtype == np.uint8
    assert result.shape == (*drawn, 3)
    assert np.array_equal(image, before)


def test_draw_keeps_colours_and_leaves_out_low_scores():
    image = np.full((600, 600, 3), (200, 100, 0), np.uint8)
    assert np.array_equal(draw(image, find_one(image), METADATA, 0.61), image)
    with_box = draw(image, find_one(image), METADATA, 0.6)
    changed = np.argwhere((with_box != image).any(axis=2))
    # The box's lines, and its label.
    low, high = changed.min(axis=0), changed.max(axis=0)
    assert np.abs(low - 150).max() < 20
    assert np.abs(high - 450).max() < 20
    assert np.array_equal(with_box[250:350, 250:350], image[250:350, 250:350])


def test_draw_ground_truth(small_datasets):
    folder = small_datasets / "digit_scenes_val"
    record = load_coco_json(str(folder / "annotations.json"), str(folder / "images"))[0]
    image = cv2.imread(record["file_name"])
    result = draw_ground_truth(image, record, Metadata(thing_classes=list("0123456789")))
    assert result.shape == (512, 512, 3)
    enlarged = cv2.resize(image, (512, 512), interpolation=cv2.INTER_NEAREST)
    changed = (result != enlarged).any(axis=2)
    assert 0 < changed.sum() < changed.size


def test_image(tmp_path):
    cv2.imwrite(str(tmp_path / "in.png"), picture())
    output = tmp_path / "new" / "out.JPG"
    visualize(find_one, METADATA, tmp_path / "in.png", output)
    assert cv2.imread(str(output)).shape == (512, 682, 3)
    assert list(output.parent.iterdir()) == [output]


def test_folder(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.jpeg"):
        cv2.imwrite(str(source / name), picture())
    (source / "notes.txt").write_text("not an image")
    (source / "below").mkdir()
    visualize(find_one, METADATA, source, output)
    assert sorted(path.name for path in output.iterdir()) == ["a.png", "b.jpeg"]


def write_video(path, frames=7, frame_rate=12.5, size=(96, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), frame_rate, size)
    for _ in range(frames):
        writer.write(picture(size[1], size[0]))
    writer.release()
    return path


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_video(suffix, tmp_path):
    source = write_video(tmp_path / "in.avi")
    output = tmp_path / "new" / f"out{suffix}"
    visualize(find_one, METADATA, source, output)
    capture = cv2.VideoCapture(str(output))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 7
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert list(output.parent.iterdir()) == [output]


def test_score_in_percent(tmp_path):
    with pytest.raises(ValueError, match="score_threshold must be from 0 to 1, got 50"):
        visualize(find_one, METADATA, tmp_path, tmp_path / "out", 50)


def test_missing_input(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"input .*nothing\.png does not exist"):
        visualize(find_one, METADATA, tmp_path / "nothing.png", tmp_path / "out.png")


def test_input_is_not_overwritten(tmp_path):
    for source in (tmp_path, tmp_path / "in.png"):
        cv2.imwrite(str(tmp_path / "in.png"), picture())
        with pytest.raises(ValueError, match="is the input"):
            visualize(find_one, METADATA, source, source)


def test_unreadable_image_is_named(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), picture())
    (source / "b.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
        visualize(find_one, METADATA, source, tmp_path / "out")


def test_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"has no images \(\.bmp, "):
        visualize(find_one, METADATA, tmp_path, tmp_path / "out")


def test_unreadable_video(tmp_path):
    source = tmp_path / "in.mp4"
    source.write_text("not a video")
    with pytest.raises(ValueError, match=r"in\.mp4 cannot be read as a video"):
        visualize(find_one, METADATA, source, tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.txt", "must end in one of"), ("out", "must end in one of"), (".", "is a folder")],
)
def test_output_of_the_wrong_kind(name, message, tmp_path):
    cv2.imwrite(str(tmp_path / "in.png"), picture())
    for source in (tmp_path / "in.png", write_video(tmp_path / "in.avi", frames=1)):
        with pytest.raises(ValueError, match=message):
            visualize(find_one, METADATA, source, tmp_path / name)


def test_no_codec(tmp_path, monkeypatch):
    monkeypatch.setitem(VIDEO_CODECS, ".avi", "ZZZZ")
    source = write_video(tmp_path / "in.avi")
    with pytest.raises(RuntimeError, match=r"no codec ZZZZ to write .*out\.avi; try another of"):
        visualize(find_one, METADATA, source, tmp_path / "new" / "out.avi")
    assert not list((tmp_path / "new").iterdir())


def test_interrupted_video_leaves_nothing(tmp_path):
    source = write_video(tmp_path / "in.avi")
    seen = []

    def stop(image):
        seen.append(image)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return find_one(image)

    with pytest.raises(KeyboardInterrupt):
        visualize(stop, METADATA, source, tmp_path / "new" / "out.avi")
    assert not list((tmp_path / "new").iterdir())


def test_tool(program_here, tmp_path):
    """Weights are found in the config's output folder; overrides come last."""
    cfg = load_config(str(DIGITS), UNTRAINED)
    cv2.imwrite(str(tmp_path / "in.png"), picture())
    save_weights(cfg, tmp_path / "model_final.pth")
    arguments = ["--config-file", DIGITS, "--input", tmp_path / "in.png"]
    arguments += ["--output", tmp_path / "out.png", "--score-threshold", 0.0]
    program_here("tools/visualize.py", *arguments, *UNTRAINED, "OUTPUT_DIR", tmp_path)
    drawn = cv2.imread(str(tmp_path / "out.png"))
    nothing = draw(picture(), find_one(picture()), METADATA, 1.0)
    assert drawn.shape == nothing.shape
    assert not np.array_equal(drawn, nothing)


def test_tool_checks_its_input_first(tmp_path, program_here):
    """Before the config, of which there is none."""
    arguments = ["--config-file", tmp_path / "none.yaml", "--output", tmp_path / "out.jpg"]
    source = tmp_path / "good.json"
    source.write_text("{}")
    wrong = rf"error: input {source} is neither image nor folder, and {source} cannot be read as a"
    with pytest.raises(SystemExit, match=wrong):
        program_here("tools/visualize.py", *arguments, "--input", source)
    video = write_video(tmp_path / "in.avi", frames=1)
    with pytest.raises(SystemExit, match=r"error: output .*out\.jpg must end in one of \.avi"):
        program_here("tools/visualize.py", *arguments, "--input", video)
    source = source.rename(tmp_path / "in.jpg")
    with pytest.raises(SystemExit, match=r"error: .*in\.jpg cannot be read as an image"):
        program_here("tools/visualize.py", *arguments, "--input", source)
    (tmp_path / "out.jpg").touch()
    with pytest.raises(SystemExit, match=r"error: output .*out\.jpg is a file, but input"):
        program_here("tools/visualize.py", *arguments, "--input", tmp_path)


def test_tool_without_weights(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "in.png"), picture())
    arguments = ["--config-file", DIGITS, "--input", tmp_path, "--output", tmp_path / "out"]
    arguments += ["OUTPUT_DIR", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(part) for part in (TOOL, *arguments)])
    with pytest.raises(SystemExit, match=f"error: weights {tmp_path / 'model_final.pth'} do not"):
        runpy.run_path(str(TOOL), run_name="__main__")
