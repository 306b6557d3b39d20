"""The keys of this package and how config files are read."""

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from omegaconf import DictConfig

from softpool_det import add_softpool_config
from softpool_det.config import load_config

BASE = "configs/Base-RetinaNet.yaml"
LAZY = "configs/lazy/retinanet_softpool_R_50_FPN_1x.py"


@pytest.fixture
def in_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_adds_stem_pool_and_changes_nothing_else():
    cfg = get_cfg()
    add_softpool_config(cfg)
    added = cfg.MODEL.pop("STEM_POOL")
    assert cfg.dump() == get_cfg().dump()
    assert dict(added) == {
        "NAME": "SoftPool2d",
        "KERNEL_SIZE": 2,
        "STRIDE": 2,
        "PADDING": 0,
        "CEIL_MODE": True,
        "GRADIENT": "paper",
        "BETA": 1.0,
        "LEARN_BETA": "no",
        "OPTIONS": [],
    }


def test_adding_again_keeps_what_was_set():
    cfg = get_cfg()
    add_softpool_config(cfg)
    cfg.MODEL.STEM_POOL.NAME = "MaxPool2d"
    before = cfg.dump()
    add_softpool_config(cfg)
    assert cfg.dump() == before


@pytest.mark.usefixtures("in_root")
def test_load_yaml():
    cfg = load_config(BASE, ["SOLVER.BASE_LR", "0.5", "MODEL.STEM_POOL.KERNEL_SIZE", "3"])
    assert isinstance(cfg, CfgNode)
    assert cfg.is_frozen()
    assert (cfg.SOLVER.BASE_LR, cfg.MODEL.STEM_POOL.KERNEL_SIZE) == (0.5, 3)
    device = cfg.MODEL.DEVICE
    assert device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert load_config(BASE, ["MODEL.DEVICE", "meta"]).MODEL.DEVICE == "meta"


@pytest.mark.parametrize("value", ['"no"', "one", "channel"])
def test_learn_beta_in_yaml(value, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"MODEL:\n  STEM_POOL:\n    LEARN_BETA: {value}\n    BETA: 4.0\n")
    pool = load_config(str(path)).MODEL.STEM_POOL
    assert pool.BETA == 4.0
    assert value.strip('"') == pool.LEARN_BETA


def test_a_bare_no_is_false_in_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("MODEL:\n  STEM_POOL:\n    LEARN_BETA: no\n")
    with pytest.raises(ValueError, match=r"(?s)no vs\. False.*MODEL\.STEM_POOL\.LEARN_BETA"):
        load_config(str(path))


@pytest.mark.usefixtures("in_root")
def test_load_lazy():
    overrides = ["optimizer.lr=0.5", "model.backbone.bottom_up.stem.pool.padding=1"]
    cfg = load_config(LAZY, overrides, trust_lazy_config=True)
    assert isinstance(cfg, DictConfig)
    assert (cfg.optimizer.lr, cfg.model.backbone.bottom_up.stem.pool.padding) == (0.5, 1)
    assert cfg.train.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert load_config(LAZY, ["train.device=meta"], True).train.device == "meta"


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("MODEL.STEMPOOL.NAME", "MODEL.STEM_POOL.NAME"),
        ("MODEL.STEM_POOL.KERNEL", "MODEL.STEM_POOL.KERNEL_SIZE"),
        ("SOLVER.LR", "SOLVER."),
    ],
)
@pytest.mark.usefixtures("in_root")
def test_unknown_key(key, nearest, tmp_path):
    """The same words for a key on the command line and in a file."""
    document: dict | str = "1"
    for name in reversed(key.split(".")):
        document = {name: document}
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(document))
    for arguments in ((BASE, [key, "1"]), (str(file),)):
        with pytest.raises(KeyError) as error:
            load_config(*arguments)
        message = str(error.value)
        assert "Non-existent" in message
        assert nearest in message
        assert "add_softpool_config" in message


@pytest.mark.usefixtures("in_root")
def test_key_without_value():
    with pytest.raises(ValueError, match=r"must be pairs, .* the last one SOLVER\.MAX_ITER$"):
        load_config(BASE, ["SOLVER.BASE_LR", "1", "SOLVER.MAX_ITER"])


@pytest.mark.usefixtures("in_root")
def test_wrong_type_is_yacs_own_error():
    with pytest.raises(ValueError, match="Type mismatch"):
        load_config(BASE, ["MODEL.STEM_POOL.CEIL_MODE", "[1]"])


@pytest.mark.parametrize(
    "text",
    [
        *("_BASE_: 5", "_BASE_: [1]", "1: 2", "MODEL: 5", "MODEL:\n  1: 2", "VERSION: x"),
        *("MODEL:\n  WEIGHTS: 2001-01-01", "SOLVER:\n  STEPS: !!set {a, b}"),
        "MODEL:\n  MASK_ON: !!binary aGk=",
    ],
)
def test_what_is_no_config_names_the_file(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}"):
        load_config(str(path))
