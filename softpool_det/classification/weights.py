"""A classifier's weights as files that detectors start from."""

from __future__ import annotations

import logging
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detectron2.config import CfgNode
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from softpool_det.classification.model import STEM_CHANNELS
from softpool_det.layers import changed_options
from softpool_det.layers.learning import pooling_parameters
from softpool_det.modeling.backbones import build_stem_pool
from softpool_det.weights import StemPool, WeightsMetadata, read_metadata
from softpool_det.weights.compatibility import check_weights
from softpool_det.weights.values import check_values

logger = logging.getLogger(__name__)


def metadata(cfg: CfgNode, num_classes: int) -> WeightsMetadata:
    """What is to be known of weights that `cfg` trains."""
    pool = cfg.MODEL.STEM_POOL
    layer = build_stem_pool(cfg, STEM_CHANNELS)
    return WeightsMetadata(
        architecture=f"resnet{cfg.MODEL.RESNETS.DEPTH}",
        stem_pool=StemPool(
            name=type(layer).__name__,
            kernel_size=pool.KERNEL_SIZE,
            stride=pool.STRIDE,
            padding=pool.PADDING,
            ceil_mode=pool.CEIL_MODE,
            gradient=pool.GRADIENT,
            beta=pool.BETA,
            learn_beta=pool.LEARN_BETA,
            options=changed_options(layer),
        ),
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=num_classes,
        source_file=f"training on {cfg.DATASETS.TRAIN}",
        source_format="detectron2",
        converter_version=_version(),
        command=shlex.join(["python", *sys.argv]),
    )


def _version() -> str:
    try:
        return version("softpool_det")
    except PackageNotFoundError:
        return "not installed"


def load_weights(model: nn.Module, cfg: CfgNode) -> None:
    """Load `MODEL.WEIGHTS`, a whole classifier with its last layer, into `model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, of another model, or was trained on other pixels
            or, unless `MODEL.ALLOW_OTHER_STEM_POOL`, behind another stem pooling. Or its values
            are NaN, infinite, or variances below 0.
    """
    path = Path(cfg.MODEL.WEIGHTS)
    if not path.is_file():
        raise FileNotFoundError(
            f"MODEL.WEIGHTS names {path}, which does not exist: tools/train_classifier.py writes "
            "such a file, softpool-convert-weights makes one of other libraries' checkpoints"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"MODEL.WEIGHTS must be a .safetensors with Detectron2's keys, got {path}: "
            "softpool-convert-weights makes one of other libraries' checkpoints"
        )
    try:
        state_dict, told = load_file(path), read_metadata(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no .safetensors, or is damaged: {error}") from error
    check_values(state_dict, path)
    if told is not None:
        check_weights(model, state_dict, told, cfg.MODEL.ALLOW_OTHER_STEM_POOL)
        _check_pixels(path, told, metadata(cfg, told.num_classes))
    try:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the config's model: {error}") from error
    # A count of the batches seen that evaluation does not use; not all libraries keep it.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    for name in pooling_parameters(model):
        if name in missing:
            missing.remove(name)
            logger.info(
                "%s is not in %s: this pooling parameter keeps its initial value", name, path
            )
    if cfg.MODEL.ALLOW_OTHER_STEM_POOL:
        unexpected = [name for name in unexpected if not name.startswith("stem.pool.")]
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit the config's model: missing {_some(missing)}, "
            f"not expected {_some(unexpected)}"
        )


def _check_pixels(path: Path, told: WeightsMetadata, wanted: WeightsMetadata) -> None:
    for name in ("pixel_mean", "pixel_std"):
        found, given = getattr(told, name), getattr(wanted, name)
        if max(abs(a - b) for a, b in zip(found, given, strict=True)) > 0.01:
            raise ValueError(
                f"MODEL.{name.upper()} is {given}, {path} was trained with {found}: set it so"
            )
    if told.channel_order != "RGB":
        raise ValueError(
            f"{path} was trained on {told.channel_order} images, a classifier here gets RGB"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
