"""A classifier's weights as files that detectors start from, directly or when converted."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from softpool_det.classification.config import Config
from softpool_det.io.atomic import replacing
from softpool_det.layers.learning import pooling_parameters
from softpool_det.video import weights as video_weights
from softpool_det.weights import WeightsMetadata, read_metadata, save_weights
from softpool_det.weights.architecture import COUNTER, Architecture
from softpool_det.weights.compatibility import describe_pool, stem_pool_of
from softpool_det.weights.values import check_values

logger = logging.getLogger(__name__)


def metadata(cfg: Config, network: nn.Module, num_classes: int) -> WeightsMetadata | None:
    """What is to be known of the weights that `cfg` trains; None for what is no ResNet."""
    library, _, name = cfg.network.partition("/")
    try:
        Architecture.from_name(name)
        pool = stem_pool_of(network) or describe_pool(network.get_submodule("maxpool"))
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


def write_weights(path: Path, network: nn.Module, told: WeightsMetadata | None) -> None:
    """Write a network's weights under its own names as safetensors, atomically."""
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    if told is not None:
        save_weights(path, tensors, told)
        return
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_weights(network: nn.Module, cfg: Config, num_classes: int) -> None:
    """Load `weights`, a whole classifier with its last layer, into `network`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, of another network, or was trained on other pixels
            or, unless `allow_other_stem_pool`, behind another stem pooling. Or its values are NaN,
            infinite, or variances below 0.
    """
    path = Path(cfg.weights)
    if cfg.network.startswith("video/"):
        if kept := video_weights.load_weights(network, path):
            logger.info("%s has other classes: %s begin anew", path, ", ".join(kept))
        return
    if not path.is_file() or path.suffix != ".safetensors":
        problem = "is no .safetensors" if path.is_file() else "does not exist"
        raise (ValueError if path.is_file() else FileNotFoundError)(
            f"weights names {path}, which {problem}: softpool-train-classifier writes such a file, "
            "softpool-convert-weights makes one of other libraries' checkpoints, and "
            "network_options.weights=IMAGENET1K_V1 takes torchvision's"
        )
    try:
        state_dict, told = load_file(path), read_metadata(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no .safetensors, or is damaged: {error}") from error
    check_values(state_dict, path)
    _check(path, told, metadata(cfg, network, num_classes), cfg.allow_other_stem_pool)
    try:
        missing, unexpected = network.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the config's network: {error}") from error
    # Not all libraries keep it; evaluation does not use it.
    missing = [name for name in missing if not name.endswith(COUNTER)]
    for name in set(pooling_parameters(network)) & set(missing):
        missing.remove(name)
        logger.info("%s is not in %s: this pooling parameter keeps its initial value", name, path)
    if cfg.allow_other_stem_pool:
        unexpected = [name for name in unexpected if not name.startswith(("stem.pool.", "maxpool"))]
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit the config's network: missing {', '.join(missing[:5]) or 'none'}"
            f", not expected {', '.join(unexpected[:5]) or 'none'}"
        )


def _check(path: Path, told: Any, wanted: Any, other_pool: bool) -> None:
    """Compare what was told with weights and what the config says; None where nothing is known."""
    if told is None or wanted is None:
        return
    names = ["architecture", "pixel_mean", "pixel_std", "channel_order", "stride_in_1x1"]
    wrong = [name for name in names if getattr(told, name) != getattr(wanted, name)]
    if not other_pool and not wanted.stem_pool.takes_weights_of(told.stem_pool):
        wrong.append("stem_pool")
    if wrong:
        faults = (f"{name} is {getattr(wanted, name)}, not {getattr(told, name)}" for name in wrong)
        raise ValueError(f"{path} was trained otherwise than the config says: {'; '.join(faults)}")
