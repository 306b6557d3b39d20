"""Checkpoints that would leave part of a detector at random, in the demo's models."""

import pytest
import torch
from detectron2.config import instantiate
from safetensors.torch import save_file

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.detector import load_detector
from softpool_det.weights.compatibility import OTHER_POOL_KEY

RETINANET = "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
MASK_RCNN = "configs/demo/digits_mask_rcnn_softpool_R_18_FPN.yaml"
R50 = "configs/COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml"
STEM = "stem.conv1.weight"
SMALL = ("MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "16")


@pytest.fixture(autouse=True)
def in_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def configured(config, *overrides):
    return load_config(config, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def files(tmp_path_factory, pytestconfig):
    """The state dicts of a RetinaNet and a Faster R-CNN, as saved."""
    folder = tmp_path_factory.mktemp("files")
    for name, config, *options in (
        ("retinanet", RETINANET),
        ("faster", MASK_RCNN, "MODEL.MASK_ON", "False"),
    ):
        model = Trainer.build_model(configured(str(pytestconfig.rootpath / config), *options))
        torch.save({"model": model.state_dict()}, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize(
    ("name", "config", "overrides", "message"),
    [
        (
            *("retinanet", RETINANET, ("MODEL.RETINANET.NUM_CLASSES", "5")),
            r"head\.cls_score\.weight is \(45, 16, 3, 3\) in the model, \(90, 16, 3, 3\) in the "
            r"file \(the first of 2 parameters\); MODEL\.RETINANET\.NUM_CLASSES "
            r"\(model\.num_classes\) is 5, the checkpoint has 10$",
        ),
        (
            *("retinanet", RETINANET, ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]")),
            r"MODEL\.ANCHOR_GENERATOR .*anchors in a cell is 3, the checkpoint has 9$",
        ),
        (
            *("retinanet", RETINANET, ("MODEL.FPN.OUT_CHANNELS", "32")),
            r"MODEL\.FPN\.OUT_CHANNELS .* is 32, the checkpoint has 16$",
        ),
        (
            *("retinanet", RETINANET, ("MODEL.RESNETS.DEPTH", "34")),
            r"res2\.2\.conv1\.weight is \(64, 64, 3, 3\) in the model, missing in the file .*"
            r"MODEL\.RESNETS\.DEPTH \(model\.backbone\.bottom_up\) is probably not the ",
        ),
        ("retinanet", R50, (), r"fpn_lateral3\.weight .* MODEL\.RESNETS\.DEPTH "),
        (
            *("faster", RETINANET, ()),
            r"MODEL\.META_ARCHITECTURE \(model\) is RetinaNet, the checkpoint has no head$",
        ),
        (
            *("faster", MASK_RCNN, ("MODEL.ROI_HEADS.NUM_CLASSES", "3")),
            r"MODEL\.ROI_HEADS\.NUM_CLASSES .* is 3, the checkpoint has 10$",
        ),
        ("faster", MASK_RCNN, (), r"MODEL\.MASK_ON .* is True, the checkpoint has no masks$"),
    ],
)
def test_says_which_key_is_wrong(files, name, config, overrides, message):
    path = files / f"{name}.pth"
    match = rf"{path} is not a checkpoint of the config's detector: .*{message}"
    with pytest.raises(ValueError, match=match):
        load_detector(configured(config, *overrides), path)


def test_lazy_config(files, lazy_config, tmp_path):
    (tmp_path / "tiny.py").write_text(lazy_config)
    options = ["train.device=cpu", "model.num_classes=5", "model.head.num_classes=5"]
    cfg = load_config(str(tmp_path / "tiny.py"), options, trust_lazy_config=True)
    ten = cfg.copy()
    ten.model.num_classes = ten.model.head.num_classes = 10
    torch.save({"model": instantiate(ten.model).state_dict()}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"\(model\.num_classes\) is 5, the checkpoint has 10"):
        load_detector(cfg, tmp_path / "model.pth")


def test_a_backbone_is_refused_for_inference_and_taken_for_training(files, tmp_path):
    state = torch.load(files / "retinanet.pth")["model"]
    prefix = "backbone.bottom_up."
    backbone = {key: value for key, value in state.items() if key.startswith(prefix)}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    plain = {key.removeprefix(prefix): value.contiguous() for key, value in backbone.items()}
    save_file(plain, tmp_path / "backbone.safetensors")
    cfg = configured(RETINANET)
    for name in ("backbone.pth", "backbone.safetensors"):
        with pytest.raises(ValueError, match="give the checkpoint of a trained detector; this"):
            load_detector(cfg, tmp_path / name)
        model = Trainer.build_model(cfg)
        SafeCheckpointer(model).load(str(tmp_path / name))
        assert torch.equal(model.state_dict()[prefix + "stem.conv1.weight"], plain[STEM])


def saved(folder, state):
    torch.save({"model": state}, folder / "model.pth")
    return folder / "model.pth"


def test_what_detectron2s_files_lack_or_have_more_is_no_fault(files, tmp_path):
    """Model zoo files have anchors and means, none of counters; wrapped models have a prefix."""
    cfg = configured(RETINANET)
    state = dict(torch.load(files / "retinanet.pth")["model"])
    lacking = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    more = lacking | {"pixel_mean": torch.zeros(3, 1, 1), "iterations": torch.zeros(1)}
    more["anchor_generator.cell_anchors.0"] = torch.zeros(9, 4)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for content in (lacking, more, wrapped):
        model = load_detector(cfg, saved(tmp_path, content))
        assert torch.equal(model.head.cls_score.weight, state["head.cls_score.weight"])
    whole = {key: value.contiguous() for key, value in lacking.items()}
    save_file(whole, tmp_path / "whole.safetensors")
    load_detector(cfg, tmp_path / "whole.safetensors")


def test_what_poolings_learn_is_for_the_check_of_the_stem(files, tmp_path):
    """A stock file lacks it; another shape of it is refused unless another stem is allowed."""
    learned = ("MODEL.STEM_POOL.LEARN_BETA", "channel")
    load_detector(configured(RETINANET, *learned), files / "retinanet.pth")
    state = Trainer.build_model(configured(RETINANET, *learned)).state_dict()
    (name,) = [key for key in state if key.endswith("stem.pool.log_beta")]
    path = saved(tmp_path, state | {name: torch.ones(1)})
    with pytest.raises(ValueError, match=rf"{name} is \(64,\) in the model, \(1,\) in the file"):
        load_detector(configured(RETINANET, *learned), path)
    load_detector(configured(RETINANET, *learned, OTHER_POOL_KEY, "True"), path)
