"""A classifier whose stem learns SoftPool's temperature, and the detector that starts from it."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softpool_det.classification.build import build_model, build_optimizer
from softpool_det.classification.config import load_config
from softpool_det.classification.swap import compare_swapped
from softpool_det.classification.weights import load_weights, metadata
from softpool_det.config import load_config as load_detector_config
from softpool_det.layers.learning import pooling_parameters
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.weights import read_metadata, save_weights

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/classification/digits_softpool_R_18.yaml")
DETECTOR = str(ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml")
CHANNEL = ["MODEL.STEM_POOL.LEARN_BETA", "channel"]

pytestmark = pytest.mark.usefixtures("one_thread")


def temperature_of(model):
    (parameter,) = pooling_parameters(model).values()
    return parameter


def test_no_weight_decay(tiny):
    cfg = load_config(CONFIG, [*tiny, *CHANNEL, "SOLVER.WEIGHT_DECAY_NORM", "1e-4"])
    model = build_model(cfg, 3)
    groups = build_optimizer(cfg, model).param_groups
    (own,) = [group for group in groups if group["weight_decay"] == 0]
    assert [id(parameter) for parameter in own["params"]] == [id(temperature_of(model))]


def test_trains_and_starts_a_detector(tiny, run_here, tmp_path):
    overrides = [*tiny, *CHANNEL, "MODEL.STEM_POOL.BETA", "2.0"]
    run_here(CONFIG, *overrides, "OUTPUT_DIR", tmp_path)
    path = tmp_path / "model_final.safetensors"
    pool = read_metadata(path).stem_pool
    assert (pool.beta, pool.learn_beta) == (2.0, "channel")
    (learned,) = [v for name, v in load_file(path).items() if name.startswith("stem.pool.")]
    assert learned.unique().numel() > 32

    evaluation = ["MODEL.WEIGHTS", path, "OUTPUT_DIR", tmp_path / "evaluation"]
    run_here(CONFIG, *overrides, *evaluation, eval_only=True)
    device = ["MODEL.DEVICE", "cpu"]
    detector = Trainer.build_model(load_detector_config(DETECTOR, [*device, *CHANNEL]))
    SafeCheckpointer(detector).load(str(path))
    assert torch.equal(temperature_of(detector), learned)
    with pytest.raises(ValueError, match=r"with a learned beta \(channel\): .* LEARN_BETA"):
        SafeCheckpointer(Trainer.build_model(load_detector_config(DETECTOR, device))).load(
            str(path)
        )

    trained = load_config(CONFIG, [*overrides, "MODEL.WEIGHTS", str(path)])
    swapped = load_config(
        CONFIG, [*tiny, "MODEL.WEIGHTS", str(path), "MODEL.STEM_POOL.NAME", "MaxPool2d"]
    )
    compare_swapped(trained, swapped, tmp_path / "swap")


def test_starts_from_weights_without_a_temperature(tiny, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("softpool_det"), "propagate", True)
    caplog.set_level(logging.INFO, logger="softpool_det")
    cfg = load_config(CONFIG, tiny)
    path = tmp_path / "weights.safetensors"
    save_weights(path, build_model(cfg, 3).state_dict(), metadata(cfg, 3))
    cfg = load_config(CONFIG, [*tiny, *CHANNEL, "MODEL.WEIGHTS", str(path)])
    model = build_model(cfg, 3)
    load_weights(model, cfg)
    ((name, temperature),) = pooling_parameters(model).items()
    assert (temperature == temperature[0]).all()
    assert f"{name} is not in {path}: this pooling parameter keeps its initial value" in caplog.text
