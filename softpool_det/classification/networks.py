"""Networks of torchvision, timm and Detectron2 by name, with other poolings in them."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from softpool_det.replace import replace_pooling
from softpool_det.weights.architecture import Architecture, build_resnet

# Without the heads that only help in training, which these two would need losses for.
_DEFAULTS = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build_network(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    replace: Sequence[Mapping[str, Any]] = (),
) -> nn.Module:
    """Build a network, then replace its poolings.

    Args:
        name: the library's name, a slash and the network's in it: "torchvision/resnet50",
            "timm/convnext_tiny", "detectron2/resnet18".
        num_classes: outputs.
        options: further arguments of what builds it; torchvision's `weights` are fetched, and read
            without running anything in them.
        replace: arguments of one call of `softpool_det.replace_pooling` each; `num_channels`, where
            a pooling needs it, is found out.

    Returns:
        A module from images (N, 3, H, W) to what `logits_of` takes.

    Raises:
        ValueError: there is no such network, or a pooling cannot be replaced.
    """
    library, _, inner = name.partition("/")
    if library not in _LIBRARIES:
        raise ValueError(
            f"network must begin with one of {', '.join(f'{key}/' for key in _LIBRARIES)}, "
            f"got {name!r}"
        )
    network = _LIBRARIES[library](inner, num_classes, dict(options or {}))
    for entry in replace:
        try:
            _replace(network, {str(key): value for key, value in entry.items()})
        except TypeError as error:
            raise ValueError(f"replace: {error}") from error
    return network


def _replace(network: nn.Module, arguments: dict[str, Any]) -> None:
    try:
        replace_pooling(network, **arguments)
    except ValueError as error:
        if "num_channels" not in str(error) or "num_channels" in arguments:
            raise
        # Each pooling has a number of its own, which a forward shows.
        probe = copy.deepcopy(network).eval()
        found = replace_pooling(probe, **{**arguments, "pool": "SoftPool"})
        channels: dict[str, int] = {}
        for name in (row.name for row in found.replaced):
            probe.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs, name=name: channels.update({name: inputs[0].shape[1]})
            )
        with torch.no_grad():
            probe(next(probe.parameters()).new_zeros(1, 3, 224, 224))
        for name, number in channels.items():
            replace_pooling(network, **{**arguments, "where": [name], "num_channels": number})


def _torchvision(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    known = models.list_models(models)
    if name not in known:
        raise ValueError(f"torchvision has no network {name!r}{_nearest(name, known)}")
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    options = {**_DEFAULTS.get(name, {}), **options}
    return models.get_model(name, num_classes=num_classes, **options)


def _timm(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}{_nearest(name, timm.list_models())}")
    return timm.create_model(name, num_classes=num_classes, **options)


def _detectron2(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    return build_resnet(Architecture.from_name(name), num_classes, **options)


_LIBRARIES = {"torchvision": _torchvision, "timm": _timm, "detectron2": _detectron2}


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known)
    return f"; the nearest are {', '.join(near)}" if near else ""


def logits_of(output: Any) -> torch.Tensor:
    """The logits (N, classes) in what a network gives: Detectron2's gives {"linear": logits}."""
    return output["linear"] if isinstance(output, dict) else output


def complexity(name: str, size: int = 224, num_classes: int = 1000) -> tuple[float, float]:
    """Millions of parameters, and GFLOP for one image of `size` x `size` pixels.

    GFLOP are counted as the paper's Table 2 has them, which are those of the package thop: the
    multiply-adds of convolutions and linear layers, 4 operations for each number that a batch norm
    gives, and one for each that a pooling window reads.
    """
    with torch.device("meta"):
        network = build_network(name, num_classes, _META.get(name)).eval()
        images = torch.empty(1, 3, size, size)
    others = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal others
        if isinstance(module, nn.BatchNorm2d):
            others += 4 * output.numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            others += inputs[0].numel()
        else:
            kernel = module.kernel_size
            others += output.numel() * (kernel**2 if isinstance(kernel, int) else kernel[0] ** 2)

    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.AvgPool2d)):
            module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, (counter.get_total_flops() / 2 + others) / 1e9


# Meta tensors have no values to draw.
_META = {f"torchvision/{name}": {"init_weights": False} for name in _DEFAULTS}
