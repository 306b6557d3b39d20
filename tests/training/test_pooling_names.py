"""Every pooling in a detector's stem: built from a config, trained for a step, saved and loaded."""

import copy

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from running import RETINANET, TINY

from softpool_det.config import load_config
from softpool_det.layers import POOLINGS
from softpool_det.layers.learning import pooling_parameters
from softpool_det.modeling.backbones import build_stem_pool
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer

POOL = "MODEL.STEM_POOL"
pytestmark = pytest.mark.usefixtures("one_thread")


def configured(*overrides):
    return load_config(str(RETINANET), [*map(str, [*TINY, *overrides])])


@pytest.fixture(scope="module")
def detector():
    return Trainer.build_model(configured())


@pytest.fixture
def batch():
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 48.0]]))
    instances.gt_classes = torch.tensor([3])
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(1))
    return [{"image": image.to(torch.uint8), "instances": instances, "height": 64, "width": 64}] * 2


@pytest.mark.parametrize("name", POOLINGS)
def test_trains_a_step(detector, batch, name):
    """What the pooling learns gets a gradient, and moves."""
    cfg = configured(f"{POOL}.NAME", name)
    model = copy.deepcopy(detector)
    model.backbone.bottom_up.stem.pool = build_stem_pool(cfg, 64)
    learned = pooling_parameters(model)
    before = {key: value.detach().clone() for key, value in learned.items()}
    optimizer = Trainer.build_optimizer(cfg, model)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    with EventStorage():
        loss = sum(model(batch).values())
    loss.backward()
    assert loss.isfinite()
    for key, value in learned.items():
        assert value.grad.isfinite().all(), key
        # A norm behind a convolution that starts at 0 scales zeros in the first step.
        assert value.grad.any() or key.endswith("norm.weight"), key
    optimizer.step()
    assert all(not torch.equal(before[k], v) for k, v in learned.items() if v.grad.any())


def saved(cfg, folder):
    """A model of cfg with other weights than it starts with, and its checkpoint."""
    model = Trainer.build_model(cfg)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01)
    SafeCheckpointer(model, str(folder)).save("model")
    return model, str(folder / "model.pth")


@pytest.mark.parametrize(
    ("name", "options"), [("lip", []), ("LiteDPPPool2d", ["symmetric", False])]
)
def test_checkpoints_hold_what_is_learned(tmp_path, name, options):
    cfg = configured(f"{POOL}.NAME", name, f"{POOL}.OPTIONS", options)
    model, path = saved(cfg, tmp_path)
    other = Trainer.build_model(cfg)
    SafeCheckpointer(other).load(path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_checkpoints_of_other_options_are_refused(tmp_path):
    other = configured(f"{POOL}.NAME", "power_avg", f"{POOL}.OPTIONS", ["exponent", 3.0])
    _, path = saved(other, tmp_path)
    model = Trainer.build_model(configured(f"{POOL}.NAME", "power_avg"))
    with pytest.raises(
        ValueError,
        match=r"PowerAvgPool2d 2x2/2/0 with exponent 3.0: take .*"
        r"OPTIONS \['exponent', 3.0\]",
    ):
        SafeCheckpointer(model).load(path)


def test_arms_start_with_the_same_weights():
    """A pooling's random start takes no random numbers away from the layers after it."""
    starts = []
    for name in ("MaxPool2d", "gated", "lip"):
        torch.manual_seed(1)
        state = Trainer.build_model(configured(f"{POOL}.NAME", name)).state_dict()
        starts.append({key: value for key, value in state.items() if ".pool." not in key})
    for start in starts[1:]:
        assert start.keys() == starts[0].keys()
        assert all(torch.equal(value, start[key]) for key, value in starts[0].items())


@pytest.mark.parametrize("name", ["lp", "dpp"])
def test_exponents_get_no_weight_decay(name):
    cfg = configured(f"{POOL}.NAME", name)
    optimizer = Trainer.build_optimizer(cfg, model := Trainer.build_model(cfg))
    decays = {
        id(value): group["weight_decay"]
        for group in optimizer.param_groups
        for value in group["params"]
    }
    for key, value in pooling_parameters(model).items():
        is_exponent = key.rpartition(".")[2] in ("rho", "alpha", "lambda_")
        assert (decays[id(value)] == 0) == is_exponent, key


def test_bad_options_are_named():
    with pytest.raises(TypeError, match="no option 'power'; its options: exponent"):
        Trainer.build_model(configured(f"{POOL}.NAME", "PowerAvg", f"{POOL}.OPTIONS", ["power", 3]))
    with pytest.raises(ValueError, match=r"OPTIONS must be a list of KEY VALUE.*\['exponent'\]"):
        Trainer.build_model(configured(f"{POOL}.NAME", "sum", f"{POOL}.OPTIONS", ["exponent"]))
    with pytest.raises(ValueError, match=r"OPTIONS has beta: set MODEL.STEM_POOL.BETA instead"):
        Trainer.build_model(configured(f"{POOL}.OPTIONS", ["beta", 2.0]))
    with pytest.raises(ValueError, match=r"OPTIONS has num_channels, which the stem decides"):
        Trainer.build_model(configured(f"{POOL}.OPTIONS", ["num_channels", 64]))
