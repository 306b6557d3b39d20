"""Weights that trainings of videos begin with."""

import pytest
import torch

from softpool_det.classification.config import Config
from softpool_det.classification.networks import build_network as build
from softpool_det.classification.weights import load_weights, metadata, write_weights
from softpool_det.video import NETWORKS, build_network

pytestmark = pytest.mark.usefixtures("one_thread")

SOFT = NETWORKS["r3d_10"].soft_pool()


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return build_network("r3d_10", 3)


def config(path, **keys):
    return Config(**{"network": "video/r3d_10", "weights": str(path), **keys})


def loaded(path, classes=3, **keys):
    cfg = config(path, **keys)
    network = build(cfg.network, classes, replace=cfg.replace)
    load_weights(network, cfg, classes)
    return network


def authors_checkpoint(model):
    """As the authors' training writes it: DataParallel's prefix, a Sequential a convolution."""
    state = {}
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if parts[0].startswith("layer") and parts[2] in ("conv1", "conv2") and value.ndim == 5:
            parts.insert(-1, "0")
        state["module." + ".".join(parts)] = value
    return {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"m": torch.zeros(3)}}}}


def test_the_authors_checkpoints_load_by_renaming(trained, tmp_path):
    path = tmp_path / "r3d_ep-0003.pth"
    torch.save(authors_checkpoint(trained), path)
    own = loaded(path).state_dict()
    for name, value in trained.state_dict().items():
        assert torch.equal(own[name], value), name
    # As MF-Net's of 2018: no counters.
    state = {n: v for n, v in trained.state_dict().items() if "num_batches" not in n}
    torch.save(state, path)
    own = loaded(path, epochs=0).state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())


def test_other_classes_only_where_training_follows(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    network = loaded(path, classes=5)
    assert torch.equal(network.stem[0].weight, trained.stem[0].weight)
    assert "fc.weight and fc.bias keep their random values" in caplog.text
    with pytest.raises(ValueError, match=r"another shape fc\.weight, fc\.bias, not expected none"):
        loaded(path, classes=5, epochs=0)


def test_what_is_told_with_weights(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    write_weights(path, trained, metadata(config(path), trained, 3))
    loaded(path)
    with pytest.raises(ValueError, match=r"stem_pool is SoftPool3d 2x2/2/0, not MaxPool3d 3x3/2/1"):
        loaded(path, replace=[SOFT])
    loaded(path, replace=[SOFT], allow_other_stem_pool=True)
    with pytest.raises(ValueError, match="architecture is mfnet, not r3d_10"):
        loaded(path, network="video/mfnet")
    # Windows that differ by dimension come back as they were.
    mfnet = build_network("mfnet", 3)
    write_weights(path, mfnet, metadata(config(path, network="video/mfnet"), mfnet, 3))
    loaded(path, network="video/mfnet")


def test_weights_that_are_refused(trained, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    with pytest.raises(ValueError, match=r"does not fit .* conv1\.conv\.weight, .* stem\.0"):
        loaded(path, network="video/mfnet")
    state = trained.state_dict() | {"fc.bias": torch.full((3,), torch.nan)}
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"fc\.bias has 3 NaN among its 3 values"):
        loaded(path)


def test_learned_poolings_keep_their_initial_values(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    loaded(path, replace=[{"where": "stem", "pool": "SoftPool3d", "learn_beta": "one"}])
    assert "stem.3.log_beta is not in" in caplog.text
