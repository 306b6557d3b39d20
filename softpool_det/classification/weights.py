"""A classifier's weights as files that detectors start from."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detectron2.config import CfgNode
from safetensors.torch import load_file
from torch import nn

from softpool_det.weights import StemPool, WeightsMetadata, read_metadata


def metadata(cfg: CfgNode, num_classes: int) -> WeightsMetadata:
    """What is to be known of weights that `cfg` trains."""
    return WeightsMetadata(
        architecture=f"resnet{cfg.MODEL.RESNETS.DEPTH}",
        stem_pool=stem_pool(cfg),
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=num_classes,
        source_file=cfg.DATASETS.TRAIN,
        source_format="detectron2",
        converter_version=_version(),
        command=shlex.join(sys.argv),
    )


def stem_pool(cfg: CfgNode) -> StemPool:
    pool = cfg.MODEL.STEM_POOL
    return StemPool(
        pool.NAME, pool.KERNEL_SIZE, pool.STRIDE, pool.PADDING, pool.CEIL_MODE, pool.GRADIENT
    )


def _version() -> str:
    try:
        return version("softpool_det")
    except PackageNotFoundError:
        # Run from a source tree that is not installed.
        return ""


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a whole classifier, `linear` included, from a .safetensors with Detectron2's keys.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, or of another model; names what does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"MODEL.WEIGHTS names {path}, which does not exist: tools/train_classifier.py writes "
            "such a file, tools/convert_weights.py makes one of other libraries' checkpoints"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"MODEL.WEIGHTS must be a .safetensors with Detectron2's keys, got {path}: "
            "tools/convert_weights.py makes one of other libraries' checkpoints"
        )
    try:
        missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the config's model: {error}") from error
    # A count of the batches seen that evaluation does not use; not all libraries keep it.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit the config's model: missing {_some(missing)}, "
            f"not expected {_some(unexpected)}"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def check_metadata(path: str | Path, cfg: CfgNode) -> None:
    """Refuse weights that were trained on other pixels or behind another stem pooling.

    Files that do not say so are taken as they are.

    Raises:
        ValueError: names what differs.
    """
    told = read_metadata(path)
    if told is None:
        return
    wanted = metadata(cfg, told.num_classes)
    for key in ("pixel_mean", "pixel_std", "channel_order"):
        if getattr(told, key) != getattr(wanted, key):
            raise ValueError(
                f"{path} was trained with {key} {getattr(told, key)}, the config has "
                f"{getattr(wanted, key)}"
            )
    if told.stem_pool.window != wanted.stem_pool.window:
        raise ValueError(
            f"{path} was trained with {told.stem_pool} in the stem, the config has "
            f"{wanted.stem_pool} (MODEL.STEM_POOL). To evaluate weights with both: "
            "tools/evaluate_classifiers.py swap"
        )
