"""A classifier's weights as files that detectors start from, directly or when converted."""

from __future__ import annotations

import logging
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detectron2.modeling import ResNet
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from softpool_det.classification.config import Config
from softpool_det.io.atomic import replacing
from softpool_det.layers.learning import pooling_parameters
from softpool_det.weights import StemPool, WeightsMetadata, read_metadata, save_weights
from softpool_det.weights.architecture import Architecture
from softpool_det.weights.compatibility import check_weights, describe_pool, stem_pool_of
from softpool_det.weights.values import check_values

logger = logging.getLogger(__name__)


def metadata(cfg: Config, network: nn.Module, num_classes: int) -> WeightsMetadata | None:
    """What is to be known of the weights that `cfg` trains; None for networks that are no ResNet.

    Only ResNets become parts of detectors.
    """
    library, _, name = cfg.network.partition("/")
    try:
        Architecture.from_name(name)
        pool = stem_pool_of(network) or describe_pool(network.get_submodule("maxpool"))
    except (ValueError, AttributeError):
        return None
    mean, std = (tuple(map(float, values)) for values in (cfg.pixel_mean, cfg.pixel_std))
    return WeightsMetadata(
        architecture=name,
        stem_pool=pool,
        pixel_mean=mean,  # type: ignore[arg-type]
        pixel_std=std,  # type: ignore[arg-type]
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=num_classes,
        source_file=f"training on {cfg.train_data}",
        source_format=library,
        converter_version=_version(),
        command=shlex.join(["python", *sys.argv]),
    )


def _version() -> str:
    try:
        return version("softpool_det")
    except PackageNotFoundError:
        return "not installed"


def write_weights(path: Path, network: nn.Module, told: WeightsMetadata | None) -> None:
    """Write a network's weights under its own names as safetensors, atomically."""
    if told is not None:
        save_weights(path, network.state_dict(), told)
        return
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
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
    if not path.is_file():
        raise FileNotFoundError(
            f"weights names {path}, which does not exist: softpool-train-classifier writes such a "
            "file, softpool-convert-weights makes one of other libraries' checkpoints, and "
            "network_options.weights=IMAGENET1K_V1 takes torchvision's"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"weights must be a .safetensors with the network's keys, got {path}: "
            "softpool-convert-weights makes one of other libraries' checkpoints"
        )
    try:
        state_dict, told = load_file(path), read_metadata(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no .safetensors, or is damaged: {error}") from error
    check_values(state_dict, path)
    wanted = metadata(cfg, network, num_classes)
    if told is not None and wanted is not None:
        if isinstance(network, ResNet):
            check_weights(network, state_dict, told, cfg.allow_other_stem_pool)
        elif not cfg.allow_other_stem_pool:
            _check_pool(path, told.stem_pool, wanted.stem_pool)
        _check_pixels(path, told, wanted)
    try:
        missing, unexpected = network.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the config's network: {error}") from error
    # A count of the batches seen that evaluation does not use; not all libraries keep it.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    for name in set(pooling_parameters(network)) & set(missing):
        missing.remove(name)
        logger.info("%s is not in %s: this pooling parameter keeps its initial value", name, path)
    if cfg.allow_other_stem_pool:
        unexpected = [name for name in unexpected if not name.startswith(("stem.pool.", "maxpool"))]
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit the config's network: missing {_some(missing)}, "
            f"not expected {_some(unexpected)}"
        )


def _check_pool(path: Path, told: StemPool, wanted: StemPool) -> None:
    if not wanted.takes_weights_of(told):
        raise ValueError(
            f"{path} was trained with {told} in the stem, the network has {wanted}: set replace so "
            "that they agree, or allow_other_stem_pool=true"
        )


def _check_pixels(path: Path, told: WeightsMetadata, wanted: WeightsMetadata) -> None:
    for name in ("pixel_mean", "pixel_std"):
        found, given = getattr(told, name), getattr(wanted, name)
        if max(abs(a - b) for a, b in zip(found, given, strict=True)) > 0.01:
            raise ValueError(f"{name} is {given}, {path} was trained with {found}: set it so")
    if told.channel_order != "RGB":
        raise ValueError(
            f"{path} was trained on {told.channel_order} images, a classifier here gets RGB"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
