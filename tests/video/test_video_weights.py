"""Weights that trainings of videos begin with."""

import pytest
import torch

from softpool_det.classification.config import Config
from softpool_det.classification.networks import build_network as build
from softpool_det.classification.networks import load_weights, metadata
from softpool_det.video import NETWORKS, build_network
from softpool_det.weights import WeightsMetadata, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SOFT = NETWORKS["r3d_10"].soft_pool()


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return build_network("r3d_10", 3)


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """Without counters, as MF-Net's checkpoints of 2018."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({n: v for n, v in trained.state_dict().items() if "num_batches" not in n}, path)
    return path


def loaded(path, classes=3, network="video/r3d_10", device="cpu", **keys):
    cfg = Config(network=network, weights=str(path), **keys)
    with torch.device(device):
        built = build(cfg.network, classes, replace=cfg.replace)
    load_weights(built, cfg, classes)
    return built


def refusal(path, error=ValueError, **keys):
    with pytest.raises(error) as caught:
        loaded(path, device="meta", **keys)
    return str(caught.value)


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


def test_what_files_lack(trained, saved, caplog):
    caplog.set_level("INFO")
    learned = {**SOFT, "learn_beta": "one"}
    own = dict(loaded(saved, epochs=0, replace=[learned]).named_parameters())
    assert all(torch.equal(own[name], value) for name, value in trained.named_parameters())
    assert "stem.3.log_beta is not in" in caplog.text


def test_other_classes_only_where_training_follows(trained, saved, caplog):
    caplog.set_level("INFO")
    network = loaded(saved, classes=5)
    assert torch.equal(network.stem[0].weight, trained.stem[0].weight)
    assert "fc.weight and fc.bias keep their random values" in caplog.text
    error = refusal(saved, classes=5, epochs=0)
    assert "of another shape fc.weight, fc.bias, not expected none" in error


def test_what_is_recorded_with_weights(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, trained.state_dict(), metadata(Config(network="video/r3d_10"), trained, 3))
    error = refusal(path, replace=[SOFT])
    assert "stem_pool is SoftPool3d 2x2/2/0, not MaxPool3d 3x3/2/1" in error
    loaded(path, replace=[SOFT], allow_other_stem_pool=True)
    assert "architecture is mfnet, not r3d_10" in refusal(path, network="video/mfnet")


def test_windows_that_differ_by_dimension_are_read_as_they_were():
    with torch.device("meta"):
        network = build_network("mfnet", 3)
    known = metadata(Config(network="video/mfnet"), network, 3)
    again = WeightsMetadata.from_header(known.to_header())
    assert again.stem_pool.kernel_size == [1, 3, 3]
    assert known.stem_pool.takes_weights_of(again.stem_pool)


def test_weights_that_are_refused(saved, tmp_path):
    error = refusal(saved, network="video/mfnet")
    assert "does not fit the config's network: missing or of another shape conv1.conv" in error
    assert "not expected stem.0" in error
    path = tmp_path / "weights.pth"
    torch.save({"fc.bias": torch.full((3,), torch.nan)}, path)
    assert "fc.bias has 3 NaN among its 3 values" in refusal(path)
    path.with_suffix(".pkl").touch()
    error = refusal(path.with_suffix(".pkl"), error=PermissionError)
    assert "weights.pkl is a pickle from outside" in error
