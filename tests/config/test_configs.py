"""Every detector's config in configs/: what it says, and that it builds, trains and infers.

The classifiers' are in tests/classification/test_classification_config.py."""

import re
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import get_cfg, instantiate
from detectron2.solver import build_lr_scheduler
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from softpool_det.config import load_config
from softpool_det.ops import SoftPool2d
from softpool_det.training import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
# Of classifiers of images and videos, and studies of several detectors.
OTHERS = ("classification", "studies", "video")
YAML = [path for path in sorted(CONFIGS.glob("*/*.yaml")) if path.parent.name not in OTHERS]
COCO = [path for path in YAML if path.parent.name.startswith("COCO")]
LAZY = sorted(CONFIGS.glob("lazy/*.py"))
MODELS = [
    *(f"COCO-Detection/retinanet{{}}_R_{depth}_FPN" for depth in (18, 34, 50, 101)),
    *(f"COCO-InstanceSegmentation/mask_rcnn{{}}_R_{depth}_FPN" for depth in (34, 50, 101)),
]
SCHEDULES = {"1x": (90_000, (60_000, 80_000)), "3x": (270_000, (210_000, 250_000))}

pytestmark = pytest.mark.usefixtures("one_thread")


def ids(paths):
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def twins(paths):
    """(stock, SoftPool) for every SoftPool config."""
    return [
        (p.with_name(p.name.replace("_softpool", "")), p) for p in paths if "_softpool" in p.name
    ]


def differing(a, b, prefix=""):
    """The keys, dotted, at which two nested mappings differ."""
    keys = set()
    for name in a.keys() | b.keys():
        left, right = a.get(name), b.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            keys |= differing(left, right, f"{prefix}{name}.")
        elif left != right:
            keys.add(prefix + str(name))
    return keys


def test_table_8_is_complete():
    expected = {
        f"{model.format(arm)}_{schedule}.yaml"
        for model in MODELS
        for arm in ("", "_softpool")
        for schedule in SCHEDULES
    }
    assert {path.relative_to(CONFIGS).as_posix() for path in COCO} == expected


@pytest.mark.parametrize("path", [*sorted(CONFIGS.glob("*.yaml")), *YAML], ids=lambda p: p.stem)
def test_is_safe_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
    load_config(str(path))


@pytest.mark.parametrize(("stock", "soft"), twins(YAML), ids=ids(soft for _, soft in twins(YAML)))
def test_twins_differ_in_the_pooling_alone(stock, soft):
    assert yaml.safe_load(soft.read_text())["_BASE_"] == stock.name
    left, right = load_config(str(stock)), load_config(str(soft))
    # STEM_POOL's defaults, which the stock file has, are what the SoftPool file spells out.
    weights = {"MODEL.WEIGHTS"} if left.MODEL.WEIGHTS else set()
    assert differing(left, right) == {"MODEL.BACKBONE.NAME"} | weights
    spelled_out = yaml.safe_load(soft.read_text())["MODEL"]["STEM_POOL"]
    # The paper has no temperature.
    rest = {"BETA": 1.0, "LEARN_BETA": "no", "OPTIONS": []}
    assert dict(right.MODEL.STEM_POOL) == {**spelled_out, **rest}
    stock_builder, builder = left.MODEL.BACKBONE.NAME, right.MODEL.BACKBONE.NAME
    assert builder == stock_builder.replace("resnet", "softpool_resnet")


@pytest.mark.parametrize(("stock", "soft"), twins(LAZY), ids=ids(soft for _, soft in twins(LAZY)))
def test_lazy_twins_differ_in_the_pooling_alone(stock, soft):
    left, right = (
        OmegaConf.to_container(load_config(str(path), trust_lazy_config=True))
        for path in (stock, soft)
    )
    stem = "model.backbone.bottom_up.stem."
    keys = differing(left, right)
    assert {key for key in keys if not key.startswith(stem)} == {"train.init_checkpoint"}
    moved = right["model"]["backbone"]["bottom_up"]["stem"]["stem"]
    assert moved == left["model"]["backbone"]["bottom_up"]["stem"]


@pytest.mark.parametrize(
    "path", [p for p in COCO if "_softpool" not in p.name], ids=lambda p: p.stem
)
def test_stock_file_needs_detectron2_alone(path):
    cfg = get_cfg()
    cfg.merge_from_file(str(path), allow_unsafe=False)
    assert "STEM_POOL" not in cfg.MODEL


@pytest.mark.parametrize("path", COCO, ids=lambda p: p.stem)
def test_recipe(path):
    cfg = load_config(str(path))
    mask_rcnn = "mask_rcnn" in path.name
    max_iter, steps = SCHEDULES[path.stem[-2:]]
    expected = {
        "SOLVER.MAX_ITER": max_iter,
        "SOLVER.STEPS": steps,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.BASE_LR": 0.02 if mask_rcnn else 0.01,
        "SOLVER.OPTIMIZER": "SGD",
        "MODEL.RESNETS.DEPTH": int(re.search(r"_R_(\d+)_", path.name)[1]),
        "MODEL.MASK_ON": mask_rcnn,
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "DATASETS.TRAIN": ("coco_2017_train",),
        "DATASETS.TEST": ("coco_2017_val",),
        # What torchvision's weights were trained with.
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
        "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
    }
    assert {key: attrgetter(key)(cfg) for key in expected} == expected


@pytest.mark.parametrize("path", LAZY, ids=lambda p: p.stem)
def test_lazy_twin_of_yaml(path):
    """The LazyConfig has the model, rates and images of the YAML config of the same name."""
    lazy = load_config(str(path), trust_lazy_config=True)
    (twin,) = [other for other in COCO if other.stem == path.stem]
    cfg = load_config(str(twin), ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = instantiate(lazy.model)
    expected = Trainer.build_model(cfg)
    assert _shapes(model) == _shapes(expected)
    assert type(_stem(model)) is type(_stem(expected))
    assert (lazy.optimizer.lr, lazy.optimizer.momentum, lazy.optimizer.weight_decay) == (
        cfg.SOLVER.BASE_LR,
        cfg.SOLVER.MOMENTUM,
        cfg.SOLVER.WEIGHT_DECAY,
    )
    assert lazy.train.init_checkpoint == cfg.MODEL.WEIGHTS
    assert lazy.train.max_iter == cfg.SOLVER.MAX_ITER
    assert lazy.dataloader.train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    assert lazy.dataloader.train.dataset.names in cfg.DATASETS.TRAIN
    assert lazy.dataloader.test.dataset.names in cfg.DATASETS.TEST
    scheduler = build_lr_scheduler(cfg, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    multiplier = instantiate(lazy.lr_multiplier)
    for iteration in (0, 500, 1000, 59_999, 60_000, 79_999, 80_000, 89_999):
        scheduler.last_epoch = iteration
        assert multiplier(iteration / 90_000) == pytest.approx(scheduler.get_lr()[0], rel=1e-6)
    for part in ("train", "test"):
        assert lazy.dataloader[part].mapper.image_format == cfg.INPUT.FORMAT
    assert lazy.model.input_format == cfg.INPUT.FORMAT


def _shapes(model):
    return {
        name: (value.shape, value.requires_grad) for name, value in model.named_parameters()
    } | {name: value.shape for name, value in model.named_buffers()}


def _stem(model):
    return model.backbone.bottom_up.stem


def fast_or_slow(paths, fast):
    """Those whose names have the pattern, and the others as slow tests."""
    marks = {True: [], False: [pytest.mark.slow]}
    return [
        pytest.param(path, id=path.stem, marks=marks[re.search(fast, path.stem) is not None])
        for path in paths
    ]


# Of the depths the smallest of each kind, for what differs by the kind is in these.
@pytest.mark.parametrize("path", fast_or_slow(YAML, r"_R_18_FPN(_1x)?$"))
def test_yaml_config_trains_and_infers(path):
    cfg = load_config(str(path), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    # Sets the rate of the first iteration.
    Trainer.build_lr_scheduler(cfg, optimizer)
    bitmask = cfg.INPUT.MASK_FORMAT == "bitmask"
    _train_and_infer(model, optimizer, bitmask, cfg.MODEL.MASK_ON, "_softpool" in path.stem)


@pytest.mark.parametrize("path", fast_or_slow(LAZY, "softpool"))
def test_lazy_config_trains_and_infers(path):
    cfg = load_config(str(path), ["train.device=cpu"], trust_lazy_config=True)
    torch.manual_seed(0)
    model = instantiate(cfg.model).to(cfg.train.device)
    cfg.optimizer.params.model = model
    cfg.optimizer.lr *= instantiate(cfg.lr_multiplier)(0.0)
    optimizer = instantiate(cfg.optimizer)
    _train_and_infer(model, optimizer, False, "mask_rcnn" in path.stem, "_softpool" in path.stem)


def _train_and_infer(model, optimizer, bitmask, mask_on, soft):
    assert isinstance(getattr(_stem(model), "pool", None), SoftPool2d) == soft
    # Two, because norms cannot learn from a single value per channel, as in the last level.
    batch = [_example(bitmask), _example(bitmask)]
    before = _stem(model).conv1.weight.detach().clone()
    with EventStorage():
        losses = model.train()(batch)
    assert ("loss_mask" in losses) == mask_on
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert not torch.equal(_stem(model).conv1.weight, before)
    with torch.no_grad():
        (output,) = model.eval()(batch[:1])
    found = output["instances"]
    assert found.image_size == (64, 96)
    assert found.has("pred_masks") == mask_on
    assert found.pred_boxes.tensor.isfinite().all()


def _example(bitmask):
    """One picture of 64x96 pixels with one object."""
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 6.0, 60.0, 50.0]]))
    instances.gt_classes = torch.tensor([0])
    mask = torch.zeros(1, 64, 96, dtype=torch.bool)
    mask[:, 6:50, 8:60] = True
    polygon = [8.0, 6.0, 60.0, 6.0, 60.0, 50.0, 8.0, 50.0]
    instances.gt_masks = BitMasks(mask) if bitmask else PolygonMasks([[polygon]])
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": 64, "width": 96}
