"""A detector whose stem learns SoftPool's temperature: optimizers, checkpoints, a whole run."""

import json
import logging
import shutil

import onnxruntime
import pytest
import torch
from detectron2.config import instantiate
from running import RETINANET, TINY, arguments, assert_same, log_of, states
from torch.export import Dim

from softpool_det.config import load_config
from softpool_det.layers.learning import pooling_parameters
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.training.detector import load_detector
from softpool_det.training.lazy import _build_optimizer

POOL = "MODEL.STEM_POOL"
CHANNEL = [f"{POOL}.LEARN_BETA", "channel"]

pytestmark = pytest.mark.usefixtures("one_thread")


def configured(*overrides):
    return load_config(str(RETINANET), [*map(str, [*TINY, *overrides])])


def model_of(*overrides):
    return Trainer.build_model(configured(*overrides))


def temperature_of(model):
    ((name, parameter),) = pooling_parameters(model).items()
    assert name.startswith("backbone.bottom_up.stem.pool.")
    return name, parameter


def decays(optimizer):
    return {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("learn_beta", ["one", "channel"])
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_no_weight_decay(kind, learn_beta):
    cfg = configured(f"{POOL}.LEARN_BETA", learn_beta, "SOLVER.OPTIMIZER", kind)
    model = Trainer.build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    found = decays(optimizer)
    _, temperature = temperature_of(model)
    assert found.pop(id(temperature)) == 0
    norms = {id(p) for n, p in model.named_parameters() if ".norm." in n}
    solver = cfg.SOLVER
    for parameter, decay in found.items():
        expected = solver.WEIGHT_DECAY_NORM if parameter in norms else solver.WEIGHT_DECAY
        assert decay == expected
    assert len(found) + 1 == len(list(model.parameters()))
    # Of a gradient of 0 only decay could move it.
    torch.nn.init.constant_(temperature, 2.0)
    temperature.grad = torch.zeros_like(temperature)
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    optimizer.step()
    assert (temperature == 2).all()


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_nothing_changes_for_others(kind):
    """Optimizers of earlier runs are resumed: the groups are Detectron2's own."""
    cfg = configured("SOLVER.OPTIMIZER", kind, "SOLVER.CLIP_GRADIENTS.ENABLED", True)
    model = Trainer.build_model(cfg)
    mine = Trainer.build_optimizer(cfg, model)
    assert type(mine).__name__ == f"{kind}WithGradientClip"
    theirs = super(Trainer, Trainer).build_optimizer(cfg, model)
    shared = {"lr", "weight_decay", "momentum", "nesterov", "foreach"} if kind == "SGD" else {"lr"}
    assert len(mine.param_groups) == len(theirs.param_groups)
    for group, other in zip(mine.param_groups, theirs.param_groups, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in other["params"]]
        assert {key: group[key] for key in shared} == {key: other[key] for key in shared}


LEARNED = """
bottom_up.stem.pool.learn_beta = "channel"
bottom_up.stem.pool.num_channels = 64
"""


@pytest.mark.parametrize(
    ("more", "decay"),
    [
        ("", 0.0),
        ('optimizer.params.overrides = {"other": {"lr": 1.0}}', 0.0),
        ('optimizer.params.overrides = {"log_beta": {"weight_decay": 0.5}}', 0.5),
    ],
)
def test_lazy_optimizer(lazy_config, tmp_path, more, decay):
    path = tmp_path / "tiny.py"
    path.write_text(lazy_config + LEARNED + more)
    cfg = load_config(str(path), ["train.device=cpu"], trust_lazy_config=True)
    model = instantiate(cfg.model)
    optimizer = _build_optimizer(cfg.optimizer, model)
    found = decays(optimizer)
    _, temperature = temperature_of(model)
    assert found.pop(id(temperature)) == decay
    # Those of norms, and all others.
    assert set(found.values()) == {0.0, 1e-4}


@pytest.fixture
def log(caplog, monkeypatch):
    """What a checkpointer says at INFO and above, also where Detectron2 set up its own logging."""
    monkeypatch.setattr(logging.getLogger("fvcore"), "propagate", True)
    caplog.set_level(logging.INFO, logger="fvcore")
    return lambda: [(r.levelno, r.getMessage()) for r in caplog.records]


def test_weights_without_a_temperature(tmp_path, log):
    """One line says that it is at its start, none warns."""
    SafeCheckpointer(model_of(), str(tmp_path)).save("model_final")
    model = model_of(*CHANNEL)
    name, temperature = temperature_of(model)
    start = temperature.detach().clone()
    SafeCheckpointer(model).load(str(tmp_path / "model_final.pth"))
    assert torch.equal(temperature, start)
    assert [text for level, text in log() if "loaded" in text] == [
        f"{name} was not loaded: this pooling parameter keeps its initial value"
    ]
    assert not [text for level, text in log() if level >= logging.WARNING]


@pytest.mark.parametrize("learn_beta", ["one", "channel"])
def test_a_learned_one_loads_back(learn_beta, tmp_path, log):
    overrides = [f"{POOL}.LEARN_BETA", learn_beta]
    source, target = model_of(*overrides), model_of(*overrides, f"{POOL}.BETA", 3.0)
    torch.nn.init.normal_(temperature_of(source)[1])
    SafeCheckpointer(source, str(tmp_path)).save("model_final")
    SafeCheckpointer(target).load(str(tmp_path / "model_final.pth"))
    assert torch.equal(temperature_of(target)[1], temperature_of(source)[1])
    assert not [text for level, text in log() if level >= logging.WARNING]


OTHERS = {
    "fixed": (
        [],
        r'with SoftPool2d 2x2/2/0, .* a learned beta \(channel\): .*LEARN_BETA "channel"',
    ),
    "one": (
        [f"{POOL}.LEARN_BETA", "one"],
        r"a learned beta \(one\), .* a learned beta \(channel\)",
    ),
}


@pytest.mark.parametrize(("overrides", "complaint"), OTHERS.values(), ids=OTHERS)
def test_a_learned_one_in_another_model(overrides, complaint, tmp_path, log):
    SafeCheckpointer(model_of(*CHANNEL), str(tmp_path)).save("model_final")
    path = str(tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match=complaint):
        SafeCheckpointer(model_of(*overrides)).load(path)
    SafeCheckpointer(model_of(*overrides), allow_other_stem_pool=True).load(path)
    warnings = [text for level, text in log() if level >= logging.WARNING]
    assert any("stem.pool" in text for text in warnings)


@pytest.mark.parametrize("overrides", [[], CHANNEL], ids=["fixed", "learned"])
def test_another_temperature(overrides, tmp_path):
    """Of the weights' own, which a model's start is compared with."""
    SafeCheckpointer(model_of(f"{POOL}.BETA", 4.0), str(tmp_path)).save("model_final")
    path = str(tmp_path / "model_final.pth")
    with pytest.raises(
        ValueError, match=r"trained with SoftPool2d 2x2/2/0 with beta 4\.0: .* BETA 4\.0"
    ):
        SafeCheckpointer(model_of(*overrides)).load(path)
    SafeCheckpointer(model_of(*overrides, f"{POOL}.BETA", 4.0)).load(path)


def options(flag, folder, *more):
    changes = ["SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.BASE_LR", 0.01]
    return arguments(RETINANET, flag, *TINY, *CHANNEL, *changes, *more, "OUTPUT_DIR", folder)


@pytest.fixture(scope="module")
def whole(train_here, tmp_path_factory):
    """The folder of a training that learned its temperatures."""
    folder = tmp_path_factory.mktemp("whole")
    train_here(*options("--resume", folder))
    return folder


def test_trains_resumes_and_evaluates(whole, train_here, tmp_path):
    # As if it had been killed after its second checkpoint.
    broken, evaluated = shutil.copytree(whole, tmp_path / "broken"), tmp_path / "evaluated"
    for name in ("model_0000005.pth", "model_final.pth", "result.json"):
        (broken / name).unlink()
    (broken / "last_checkpoint").write_text("model_0000003.pth")
    train_here(*options("--resume", broken))
    assert "Starting training from iteration 4" in log_of(broken)
    assert_same(states(broken), states(whole))
    metrics = [
        json.loads((folder / "result.json").read_text())["metrics"] for folder in (whole, broken)
    ]
    assert metrics[0] == metrics[1]

    train_here(*options("--eval-only", evaluated, "MODEL.WEIGHTS", whole / "model_final.pth"))
    found = json.loads((evaluated / "evaluation.json").read_text())["metrics"]
    assert found == metrics[0]

    _, temperature = temperature_of(load_detector(configured(*CHANNEL), whole / "model_final.pth"))
    assert temperature.unique().numel() > 32


@pytest.mark.slow  # tests/modeling/test_export_backbone.py exports one that was not trained
def test_exports_what_it_learned(whole):
    """To ONNX Runtime, for an image of another size than the exported one."""
    backbone = load_detector(configured(*CHANNEL), whole / "model_final.pth").backbone
    sizes = (dict.fromkeys((0, 2, 3), Dim.DYNAMIC),)
    program = torch.onnx.export(
        backbone, (torch.randn(2, 3, 64, 96),), dynamo=True, dynamic_shapes=sizes, verbose=False
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (name,) = (input.name for input in session.get_inputs())
    images = torch.randn(1, 3, 128, 64)
    outputs = [torch.from_numpy(x) for x in session.run(None, {name: images.numpy()})]
    with torch.no_grad():
        expected = list(backbone(images).values())
    for actual, wanted in zip(outputs, expected, strict=True):
        # Small elements are differences of large ones.
        tolerance = 1e-4 * wanted.abs().max().item()
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=tolerance)
