"""Networks of torchvision, timm and Detectron2 by name, with other poolings in them."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from softpool_det import video
from softpool_det.io.errors import nearest
from softpool_det.replace import replace_pooling
from softpool_det.weights.architecture import Architecture, build_resnet

# What `replace_pooling` takes for every pooling.
_WINDOW = ("where", "kernel_size", "stride", "padding", "dilation", "ceil_mode")


def build_network(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    replace: Sequence[Mapping[str, Any]] = (),
) -> nn.Module:
    """Build a network, then replace its poolings.

    Args:
        name: "torchvision/NAME", "timm/NAME" or "detectron2/NAME"; "video/NAME" for clips.
        num_classes: outputs.
        options: further arguments of what builds it, such as torchvision's `weights`.
        replace: arguments of one call of `softpool_det.replace_pooling` each; `num_channels`, where
            a pooling needs it, is found out.

    Returns:
        A module from images (N, 3, H, W) to what `logits_of` takes.

    Raises:
        ValueError: there is no such network, or a pooling cannot be replaced.
    """
    library, _, inner = name.partition("/")
    if library not in _LIBRARIES:
        known = ", ".join(f"{key}/" for key in _LIBRARIES)
        raise ValueError(f"network must begin with one of {known}, got {name!r}")
    # For torch.load in the libraries.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    network = _LIBRARIES[library](inner, num_classes, dict(options or {}))
    for entry in replace:
        try:
            _replace(network, {str(key): value for key, value in entry.items()})
        except TypeError as error:
            raise ValueError(f"replace: {error}") from error
    return network


def _torchvision(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    known = models.list_models(models)
    if name not in known:
        raise ValueError(f"torchvision has no network {name!r}{nearest(name, known)}")
    if name not in ("googlenet", "inception_v3"):
        return models.get_model(name, num_classes=num_classes, **options)
    # Files of weights hold the heads.
    has_weights = options.get("weights") is not None
    defaults = {"aux_logits": has_weights, "init_weights": not has_weights}
    network: Any = models.get_model(name, num_classes=num_classes, **{**defaults, **options})
    network.aux_logits = False
    # Heads that only help in training: they need losses of their own.
    for head in ("aux1", "aux2", "AuxLogits"):
        setattr(network, head, None)
    return network


def _timm(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}{nearest(name, timm.list_models())}")
    return timm.create_model(name, num_classes=num_classes, **options)


def _detectron2(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    return build_resnet(Architecture.from_name(name), num_classes, **options)


def _video(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    if options:
        raise ValueError(f"network_options must be empty for video/{name}, got {options}")
    return video.build_network(name, num_classes)


_LIBRARIES = {
    **{"torchvision": _torchvision, "timm": _timm},
    **{"detectron2": _detectron2, "video": _video},
}


def _replace(network: nn.Module, arguments: dict[str, Any]) -> None:
    try:
        replace_pooling(network, **arguments)
    except ValueError as error:
        if "num_channels" not in str(error) or "num_channels" in arguments:
            raise
        # Each pooling has a number of its own, which a forward shows.
        channels: dict[nn.Module, int] = {}
        probe = copy.deepcopy(network).eval()
        window = {key: value for key, value in arguments.items() if key in _WINDOW}
        found = replace_pooling(probe, pool="SoftPool", **window).replaced
        pools = {row.name: probe.get_submodule(row.name) for row in found}
        for pool in pools.values():
            pool.register_forward_pre_hook(lambda p, x: channels.update({p: x[0].shape[1]}))
        with torch.no_grad():
            frames = [8] if any(isinstance(m, nn.Conv3d) for m in probe.modules()) else []
            probe(next(probe.parameters()).new_zeros(1, 3, *frames, 224, 224))
        if unused := [name for name, pool in pools.items() if pool not in channels]:
            raise ValueError(
                f"replace: no image reaches {', '.join(unused)}: give num_channels, or name others"
            ) from error
        for name, pool in pools.items():
            there = {"where": [name], "num_channels": channels[pool]}
            replace_pooling(network, **{**arguments, **there})


def logits_of(output: Any) -> torch.Tensor:
    """Take the logits (N, classes) from a network's output, for Detectron2 {"linear": logits}."""
    return output["linear"] if isinstance(output, dict) else output


def complexity(name: str) -> tuple[float, float]:
    """Count millions of parameters, and GFLOP of a 224 x 224 image or a clip of 32 frames.

    Counted as in the paper's tables: multiply-adds of convolutions, linear and recurrent layers;
    for images (Table 2, 1000 classes) also 4 for each number of a batch norm and one for each that
    a pooling window reads; for clips (Table 7, 400) 2 for a norm's, and 1 for each that a ReLU or a
    pooling takes.
    """
    library, _, inner = name.partition("/")
    is_video = library == "video"
    shape = (32, *[video.NETWORKS[inner].side] * 2) if is_video else (224, 224)
    norms = ("native_batch_norm", "_native_batch_norm_legit_no_training")
    costs: dict[str, Any] = dict.fromkeys(norms, partial(_each, 2 if is_video else 4))
    costs |= dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _windows)
    if is_video:
        costs |= dict.fromkeys(("relu", "relu_", "max_pool3d_with_indices"), partial(_each, 1))
    # Meta tensors have no values to draw.
    options = {"init_weights": False} if inner in ("googlenet", "inception_v3") else {}
    with torch.device("meta"), torch.no_grad():
        network = build_network(name, 400 if is_video else 1000, options).eval()
        others = {getattr(torch.ops.aten, operator): cost for operator, cost in costs.items()}
        with FlopCounterMode(display=False, custom_mapping=others) as counter:
            network(torch.empty(1, 3, *shape))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, counter.get_total_flops() / 2e9


# The counter has two operations for a multiply-add.
def _each(cost: int, shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * cost * math.prod(shape)


def _windows(_: torch.Size, kernel: Sequence[int], *__: Any, out_shape: Any, **___: Any) -> int:
    shape = out_shape if isinstance(out_shape, torch.Size) else out_shape[0]
    return 2 * math.prod(shape) * kernel[0] * kernel[-1]
