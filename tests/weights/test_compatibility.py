"""Weights with metadata, in the models of configs: what is taken and what is refused."""

import logging
import re
from dataclasses import replace

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from safetensors.torch import load_file, save_file

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.detector import load_detector
from softpool_det.weights import StemPool, WeightsMetadata, save_weights
from softpool_det.weights.architecture import Architecture, build_resnet
from softpool_det.weights.compatibility import check_weights
from softpool_det.weights.metadata import MAX_POOL, SOFT_POOL

pytestmark = pytest.mark.usefixtures("one_thread")

METADATA = WeightsMetadata(
    architecture="resnet18",
    stem_pool=MAX_POOL,
    pixel_mean=(123.675, 116.280, 103.530),
    pixel_std=(58.395, 57.120, 57.375),
    channel_order="RGB",
    stride_in_1x1=False,
    num_classes=10,
    source_file="resnet18.pth",
)
STEM = "stem.conv1.weight"
CONFIG = "configs/COCO-Detection/retinanet{}_R_18_FPN_1x.yaml"
POOLS = {"": MAX_POOL, "_softpool": SOFT_POOL}


@pytest.fixture
def in_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def resnet(name, **kwargs):
    return build_resnet(Architecture.from_name(name), 10, **kwargs)


def saved(folder, name="resnet18", **changes):
    """A file of a random ResNet with METADATA, but for `changes`."""
    metadata = replace(METADATA, architecture=name, **changes)
    path = folder / "weights.safetensors"
    save_weights(path, resnet(name).state_dict(), metadata)
    return str(path)


def detector(config, *overrides):
    return Trainer.build_model(load_config(config, [*overrides, "MODEL.DEVICE", "cpu"]))


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("arm", POOLS)
def test_configs_take_weights_of_their_own_stem(arm, tmp_path, caplog):
    """The files that configs/COCO-* name; all the ResNet's values, without a word on any."""
    model = detector(CONFIG.format(arm))
    source = resnet("resnet18")
    path = tmp_path / "weights.safetensors"
    save_weights(path, source.state_dict(), replace(METADATA, stem_pool=POOLS[arm]))
    SafeCheckpointer(model).load(str(path))
    found = model.backbone.bottom_up.state_dict()
    assert len(found) > 90
    for key, value in found.items():
        assert torch.equal(value, source.state_dict()[key]), key
    assert "num_batches_tracked" not in caplog.text


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("arm", POOLS)
def test_configs_refuse_weights_of_the_other_stem(arm, tmp_path):
    (other,) = [pool for name, pool in POOLS.items() if name != arm]
    path = saved(tmp_path, stem_pool=other)
    cfg = load_config(CONFIG.format(arm), ["MODEL.DEVICE", "cpu"])
    match = rf"the stem pools with {POOLS[arm]}, the weights were trained with {other}: .*"
    with pytest.raises(ValueError, match=match + r"MODEL\.ALLOW_OTHER_STEM_POOL True"):
        load_detector(cfg, path)
    allowed = ["MODEL.DEVICE", "cpu", "MODEL.ALLOW_OTHER_STEM_POOL", "True"]
    model = detector(CONFIG.format(arm), *allowed)
    SafeCheckpointer(model, allow_other_stem_pool=True).load(path)
    assert torch.equal(model.backbone.bottom_up.stem.conv1.weight, load_file(path)[STEM])


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("arm", POOLS)
def test_checkpoints_know_their_stem(arm, tmp_path):
    """A detector's, too: the other arm refuses it, unless asked for; its own takes it."""
    SafeCheckpointer(detector(CONFIG.format(arm)), str(tmp_path)).save("model_final")
    path = str(tmp_path / "model_final.pth")
    own = detector(CONFIG.format(arm))
    assert "stem_pool" not in SafeCheckpointer(own).load(path)
    (other,) = [name for name in POOLS if name != arm]
    match = rf"model_final\.pth: the stem pools with {POOLS[other]}, .* with {POOLS[arm]}: "
    model = detector(CONFIG.format(other))
    before = model.backbone.bottom_up.stem.conv1.weight.clone()
    with pytest.raises(ValueError, match=match):
        SafeCheckpointer(model).load(path)
    assert torch.equal(model.backbone.bottom_up.stem.conv1.weight, before)
    SafeCheckpointer(model, allow_other_stem_pool=True).load(path)
    for key, value in own.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_lazy_config(lazy_config, tmp_path):
    """As it is, it takes BGR images (Detectron2's RetinaNet) and SoftPool."""
    config = tmp_path / "tiny.py"
    config.write_text(lazy_config)
    bgr = {"channel_order": "BGR", "pixel_mean": (103.53, 116.28, 123.675), "pixel_std": (1, 1, 1)}
    soft = saved(tmp_path / "soft", stem_pool=SOFT_POOL, **bgr)
    # The stem fits; a detector has more than that.
    part = pytest.raises(ValueError, match="this file has at most its backbone")
    with part:
        load_detector(load_config(str(config), ["train.device=cpu"], trust_lazy_config=True), soft)
    stock = saved(tmp_path / "max", **bgr)
    with pytest.raises(ValueError, match=r"\(train\.allow_other_stem_pool=true\)"):
        load_detector(load_config(str(config), ["train.device=cpu"], trust_lazy_config=True), stock)
    allowed = ["train.device=cpu", "train.allow_other_stem_pool=true"]
    with part:
        load_detector(load_config(str(config), allowed, trust_lazy_config=True), stock)


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            ["MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]"],
            "MODEL.PIXEL_MEAN (model.pixel_mean) is [103.53, 116.28, 123.675], the weights need "
            "[123.675, 116.28, 103.53]",
        ),
        (
            ["MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"],
            "MODEL.PIXEL_STD (model.pixel_std) is [1.0, 1.0, 1.0], the weights need "
            "[58.395, 57.12, 57.375]",
        ),
        (
            ["INPUT.FORMAT", "BGR"],
            "INPUT.FORMAT (model.input_format and dataloader.*.mapper.image_format) is BGR, the "
            "weights need RGB",
        ),
    ],
    ids=["mean", "std", "format"],
)
@pytest.mark.parametrize(
    "config", [CONFIG.format(""), "configs/demo/digits_mask_rcnn_R_18_FPN.yaml"], ids=["one", "two"]
)
def test_other_images_are_refused(config, overrides, complaint, tmp_path):
    """In one-stage and two-stage detectors."""
    model = detector(config, *overrides)
    with pytest.raises(ValueError, match=re.escape(complaint)) as error:
        SafeCheckpointer(model, allow_other_stem_pool=True).load(saved(tmp_path))
    assert str(error.value).startswith(
        "the config does not fit the weights (resnet18, from resnet18.pth):\n  "
    )
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.usefixtures("in_root")
def test_all_differences_are_said_at_once(tmp_path):
    """Here those of Detectron2's own defaults."""
    default = get_cfg()
    overrides = [
        *("MODEL.PIXEL_MEAN", default.MODEL.PIXEL_MEAN, "MODEL.PIXEL_STD", default.MODEL.PIXEL_STD),
        *("INPUT.FORMAT", default.INPUT.FORMAT),
    ]
    model = detector(CONFIG.format("_softpool"), *overrides)
    with pytest.raises(ValueError, match="does not fit") as error:
        SafeCheckpointer(model).load(saved(tmp_path))
    *images, stem = str(error.value).splitlines()[1:]
    assert [line.split()[0] for line in images] == [*overrides[::2]]
    assert stem.startswith("  the stem pools with SoftPool2d 2x2/2/0")


def check(model, weights, **changes):
    """The comparison that comes before any value is loaded: here there are none."""
    kwargs = {"stride_in_1x1": changes.get("stride_in_1x1", False)}
    with torch.device("meta"):
        built, source = model(), resnet(weights, **kwargs)
    check_weights(built, source.state_dict(), replace(METADATA, architecture=weights, **changes))


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_stride(stride_in_1x1):
    def model(stride):
        return lambda: resnet("resnet50", stride_in_1x1=stride)

    check(model(stride_in_1x1), "resnet50", stride_in_1x1=stride_in_1x1)
    match = rf"STRIDE_IN_1X1 \(stride_in_1x1\) is {not stride_in_1x1}, .* need {stride_in_1x1}"
    with pytest.raises(ValueError, match=match):
        check(model(not stride_in_1x1), "resnet50", stride_in_1x1=stride_in_1x1)


@pytest.mark.parametrize(
    ("model", "weights", "complaint"),
    [
        ("resnet18", "resnet34", r"res2 has 2 blocks instead of 3; the weights need .*DEPTH 34"),
        ("resnet34", "resnet18", r"res2 has 3 blocks instead of 2; .*RES2_OUT_CHANNELS 64"),
        ("resnet50", "resnet101", r"res4 has 6 blocks instead of 23; .*DEPTH 101"),
        (
            "resnet50",
            "resnext50_32x4d",
            r"res2\.0\.conv1\.\S+ is \(64.*\) instead of \(128.*"
            r"NUM_GROUPS 32, MODEL\.RESNETS\.WIDTH_PER_GROUP 4 ",
        ),
        (
            "resnext50_32x4d",
            "wide_resnet50_2",
            r"res2\.0\.conv2\.weight is \(128, 4, 3, 3\) instead of \(128, 128, 3, 3\).*"
            r"MODEL\.RESNETS\.WIDTH_PER_GROUP 128 ",
        ),
    ],
)
def test_other_shapes_are_refused(model, weights, complaint):
    with pytest.raises(ValueError, match=rf"the model is not a {weights}: {complaint}"):
        check(lambda: resnet(model), weights)


def test_stem_pool_of_the_same_window():
    """Sizes rounded up and the gradient change nothing that weights could notice."""

    def model(pool):
        return lambda: resnet("resnet18", stem_pool=pool)

    same = StemPool("SoftPool2d", 2, 2, 0, ceil_mode=True, gradient="exact")
    check(model(same), "resnet18", stem_pool=SOFT_POOL)
    other = StemPool("SoftPool2d", 3, 2, 1)
    with pytest.raises(ValueError, match=r"pools with SoftPool2d 3x3/2/1, .*SoftPool2d 2x2/2/0"):
        check(model(other), "resnet18", stem_pool=SOFT_POOL)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_names_are_refused(suffix, tmp_path):
    """They match nothing: Detectron2 alone would warn, and train from scratch."""
    path = tmp_path / f"resnet18{suffix}"
    state_dict = torchvision.models.resnet18().state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(state_dict, path)
    with pytest.raises(ValueError, match=rf"softpool-convert-weights \S+{suffix} NEW"):
        SafeCheckpointer(resnet("resnet18")).load(str(path))
    # To torchvision's own model they are the right ones.
    SafeCheckpointer(torchvision.models.resnet18()).load(str(path))


@pytest.mark.parametrize("wrapper", ["state_dict", "model_ema"])
def test_weights_in_another_entry_are_refused(wrapper, tmp_path):
    """There Detectron2 looks for none, and would train from scratch."""
    path = tmp_path / "checkpoint.pth"
    state_dict = {f"module.{key}": value for key, value in resnet("resnet18").state_dict().items()}
    torch.save({wrapper: state_dict, "epoch": 3}, path)
    match = rf"checkpoint\.pth keeps its ResNet under '{wrapper}', .*softpool-convert-weights "
    with pytest.raises(ValueError, match=match):
        SafeCheckpointer(resnet("resnet18")).load(str(path))


def test_wrapped_names_of_torchvision_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    state_dict = torchvision.models.resnet18().state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state_dict.items()}}, path)
    with pytest.raises(ValueError, match=r"has torchvision's names .*convert it: softpool-"):
        SafeCheckpointer(resnet("resnet18")).load(str(path))


def test_average_beside_the_weights_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fvcore"), "propagate", True)
    source, target = resnet("resnet18"), resnet("resnet18")
    path = tmp_path / "model_final.pth"
    average = {key: value + 1 for key, value in source.state_dict().items()}
    torch.save({"model": source.state_dict(), "ema_state": average}, path)
    SafeCheckpointer(target).load(str(path))
    assert torch.equal(target.stem.conv1.weight, source.stem.conv1.weight)
    assert "loaded 'model'; the file also holds ema_state" in caplog.text


def test_model_without_a_resnet(tmp_path):
    with pytest.raises(ValueError, match="a resnet18's, the model has no ResNet"):
        SafeCheckpointer(torch.nn.Conv2d(1, 1, 1)).load(saved(tmp_path))
