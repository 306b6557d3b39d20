"""What weights were trained with, as far as their origin shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from softpool_det.weights.architecture import Architecture
from softpool_det.weights.metadata import MAX_POOL, SOFT_POOL, StemPool
from softpool_det.weights.sources import Source


@dataclass(frozen=True)
class Convention:
    """How images are given to a ResNet, and where its stride is; as in `WeightsMetadata`."""

    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    channel_order: str
    stride_in_1x1: bool


CONVENTIONS = {
    # Also most of timm's, and the SoftPool authors'.
    "torchvision": Convention((123.675, 116.280, 103.530), (58.395, 57.120, 57.375), "RGB", False),
    # Detectron2's R-50.pkl and R-101.pkl: its default PIXEL_MEAN, PIXEL_STD and STRIDE_IN_1X1.
    "msra": Convention((103.530, 116.280, 123.675), (1.0, 1.0, 1.0), "BGR", True),
    # Detectron2's X-101-32x8d.pkl, as in its mask_rcnn_X_101_32x8d_FPN_3x.yaml.
    "fair": Convention((103.530, 116.280, 123.675), (57.375, 57.120, 58.395), "BGR", False),
}


def convention_of(
    source: Source, architecture: Architecture, name: str | None = None
) -> Convention:
    """Find the convention that weights follow.

    Args:
        source: the file.
        architecture: of its model; Caffe2's ResNets and ResNeXts differ.
        name: a key of `CONVENTIONS`, where the user gave one.

    Raises:
        ValueError: it is required, or is not what the file's metadata say.
    """
    known = _known_convention(source, architecture)
    if name is None and known is None:
        raise ValueError(
            f"{source.path}: a Detectron2 checkpoint does not say how its images were normalized, "
            "nor where the stride is. Say --convention torchvision (RGB, torchvision's mean and "
            "std, stride in the 3x3 convolutions), msra (BGR, std 1, stride in the 1x1) or fair "
            "(BGR, std 57.375 57.12 58.395, stride in the 3x3), by the config that it was trained "
            "with"
        )
    if name is None:
        assert known is not None
        return known
    if source.metadata is not None and CONVENTIONS[name] != known:
        raise ValueError(f"{source.path}: its metadata say {known}, not --convention {name}")
    return CONVENTIONS[name]


def stem_pool_shown(source: Source, tensors: Mapping[str, torch.Tensor]) -> StemPool:
    """Describe the pooling from its parameters; without metadata its window is a guess.

    Args:
        source: the file.
        tensors: its weights under Detectron2's names.
    """
    if source.metadata is not None:
        return source.metadata.stem_pool
    if "stem.pool.log_beta" not in tensors:
        return MAX_POOL
    one = tensors["stem.pool.log_beta"].numel() == 1
    return replace(SOFT_POOL, learn_beta="one" if one else "channel")


def stem_pool_of(source: Source, given: StemPool | None = None, learn_beta: str = "no") -> StemPool:
    """Find the stem's pooling that weights were trained with.

    Args:
        source: the file.
        given: what the user said.
        learn_beta: "one" or "channel" where a learned temperature is among the weights.

    Raises:
        ValueError: it is required, or is not what the file's metadata say.
    """
    if source.metadata is not None:
        found = source.metadata.stem_pool
        if given is not None and not given.takes_weights_of(found):
            raise ValueError(f"{source.path}: its metadata say {found} in the stem, not {given}")
        return found
    if given is not None and learn_beta != "no" and given.name == MAX_POOL.name:
        raise ValueError(
            f"{source.path}: a learned beta of SoftPool is among the weights, so that the stem "
            "did not pool with its maximum; say --stem-pool softpool"
        )
    if given is not None:
        return replace(given, learn_beta=learn_beta)
    # A checkpoint of a training program, or under a name that contradicts the default.
    published = source.file.suffix == ".pkl" or not (
        source.wrapped or source.format == "detectron2"
    )
    if published and learn_beta == "no" and "softpool" not in source.file.name.lower():
        return MAX_POOL
    raise ValueError(
        f"{source.path}: the file does not show which pooling is in its stem. Give "
        "--stem-pool softpool (2x2, stride 2, as in the SoftPool authors' models) or --stem-pool "
        "max (3x3, stride 2, padding 1)"
    )


def _known_convention(source: Source, architecture: Architecture) -> Convention | None:
    metadata = source.metadata
    if metadata is not None:
        return Convention(
            metadata.pixel_mean,
            metadata.pixel_std,
            metadata.channel_order,
            metadata.stride_in_1x1,
        )
    if source.format == "caffe2":
        return CONVENTIONS["fair" if architecture.num_groups > 1 else "msra"]
    if source.format == "detectron2" and source.author != "torchvision":
        return None
    config = source.timm_config.get("pretrained_cfg", {})
    if "mean" in config and "std" in config:
        mean, std = (_in_255(config[key]) for key in ("mean", "std"))
        return Convention(mean, std, "RGB", False)
    return CONVENTIONS["torchvision"]


def _in_255(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * value, 3) for value in values)
    return red, green, blue
