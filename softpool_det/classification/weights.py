"""A classifier's weights as files that detectors start from, directly or when converted."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softpool_det.classification.config import Config
from softpool_det.layers.learning import pooling_parameters
from softpool_det.video import NETWORKS
from softpool_det.weights import WeightsMetadata, read_metadata
from softpool_det.weights.architecture import COUNTER, Architecture
from softpool_det.weights.compatibility import describe_pool, stem_pool_of
from softpool_det.weights.entries import state_dicts
from softpool_det.weights.pickles import check_origin
from softpool_det.weights.sources import read_file
from softpool_det.weights.values import check_values

# DataParallel's and torch.compile's.
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
# The authors of Table 7's ResNets put each 3x3x3 convolution into a Sequential of its own.
_AUTHORS_CONV = re.compile(r"(layer\d\.\d+\.conv[12]\.0)\.0\.weight$")

logger = logging.getLogger(__name__)


def metadata(cfg: Config, network: nn.Module, num_classes: int) -> WeightsMetadata | None:
    """Describe the weights that `cfg` trains; None for images without a ResNet."""
    library, _, name = cfg.network.partition("/")
    try:
        if library != "video":
            Architecture.from_name(name)
        # A video network may have several, which are alike.
        pool = stem_pool_of(network) or describe_pool(network.get_submodule(_stem_pools(cfg)[-1]))
    except (ValueError, AttributeError):
        return None
    return WeightsMetadata(
        architecture=name,
        stem_pool=pool,
        pixel_mean=tuple(cfg.pixel_mean),  # type: ignore[arg-type]
        pixel_std=tuple(cfg.pixel_std),  # type: ignore[arg-type]
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=num_classes,
        source_file=f"training on {cfg.train_data}",
        source_format=library,
        command=shlex.join(["python", *sys.argv]),
    )


def load_weights(network: nn.Module, cfg: Config, num_classes: int) -> None:
    """Load `weights`, a whole classifier, into `network`, by name.

    Where training follows, a last layer of other classes keeps its random values. Of no file is
    code run. A training's checkpoint may be around the weights.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: a `.pkl`.
        ValueError: it is another kind of file, of another network, or was trained on other pixels
            or, unless `allow_other_stem_pool`, behind another stem pooling. Or its values are NaN,
            infinite, or variances below 0.
    """
    path = Path(cfg.weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights names {path}, which does not exist: softpool-train-classifier writes such a "
            "file, softpool-convert-weights makes one of other libraries' checkpoints, and "
            "network_options.weights=IMAGENET1K_V1 takes torchvision's"
        )
    check_origin(cfg.weights)
    own = network.state_dict()
    states = [
        {_renamed(name, own): value for name, value in found.items()}
        for _, found in state_dicts(read_file(path))
    ]
    # A training's checkpoint has the optimizer's tensors, too.
    state = max(states, key=lambda state: len(state.keys() & own.keys()), default={})
    check_values(state, path)
    recorded = read_metadata(path) if path.suffix == ".safetensors" else None
    _check(path, recorded, metadata(cfg, network, num_classes), cfg.allow_other_stem_pool)
    fitting = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    # Not all libraries keep it; evaluation does not use it.
    missing = [name for name in own if name not in fitting and not name.endswith(COUNTER)]
    for name in set(pooling_parameters(network)) & set(missing):
        missing.remove(name)
        logger.info("%s is not in %s: this pooling parameter keeps its initial value", name, path)
    last = [name for name, _ in network.named_parameters()][-2:]
    if cfg.epochs and set(missing) <= set(last) <= state.keys() and missing:
        logger.info("%s has other classes: %s keep their random values", path, " and ".join(last))
        missing = []
    unexpected = [name for name in state if name not in own]
    if cfg.allow_other_stem_pool:
        stems = tuple(f"{name}." for name in _stem_pools(cfg))
        unexpected = [name for name in unexpected if not name.startswith(stems)]
    if missing or unexpected:
        lacking, others = (", ".join(part[:5]) or "none" for part in (missing, unexpected))
        raise ValueError(
            f"{path} does not fit the config's network: missing or of another shape {lacking}, "
            f"not expected {others}"
        )
    network.load_state_dict(fitting, strict=False)


def _renamed(name: str, own: Mapping[str, torch.Tensor]) -> str:
    name = _WRAPPERS.sub("", name)
    shorter = _AUTHORS_CONV.sub(r"\1.weight", name)
    return shorter if shorter in own else name


def _stem_pools(cfg: Config) -> tuple[str, ...]:
    library, _, name = cfg.network.partition("/")
    return NETWORKS[name].stem_pools if library == "video" else ("stem.pool", "maxpool")


def _check(path: Path, recorded: Any, wanted: Any, other_pool: bool) -> None:
    """Compare a file's metadata with what the config says; None where nothing is known."""
    if recorded is None or wanted is None:
        return
    names = ["architecture", "pixel_mean", "pixel_std", "channel_order", "stride_in_1x1"]
    wrong = [name for name in names if getattr(recorded, name) != getattr(wanted, name)]
    if not other_pool and not wanted.stem_pool.takes_weights_of(recorded.stem_pool):
        wrong.append("stem_pool")
    if wrong:
        faults = (
            f"{name} is {getattr(wanted, name)}, not {getattr(recorded, name)}" for name in wrong
        )
        raise ValueError(f"{path} was trained otherwise than the config says: {'; '.join(faults)}")
