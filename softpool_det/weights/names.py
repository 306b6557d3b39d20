"""Keys of state dicts: torchvision's, Caffe2's and Detectron2's ResNets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names

Tensors = dict[str, torch.Tensor]
_STEM = "stem.conv1.weight"


def torchvision_to_detectron2(name: str) -> str:
    """conv1.weight -> stem.conv1.weight, layer1.0.bn2.bias -> res2.0.conv2.norm.bias, ..."""
    name = re.sub(r"^fc\.", "linear.", name)
    name = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", name)
    name = re.sub(r"^maxpool\.", "stem.pool.", name)
    name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
    name = re.sub(r"(^|\.)bn(\d)\.", r"\1conv\2.norm.", name)
    return name.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")


def detectron2_to_torchvision(name: str) -> str:
    """Invert :func:`torchvision_to_detectron2`."""
    name = name.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
    name = re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", name)
    name = re.sub(r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}.", name)
    name = re.sub(r"^stem\.pool\.", "maxpool.", name)
    name = re.sub(r"^stem\.", "", name)
    return re.sub(r"^linear\.", "fc.", name)


def from_detectron2(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Detectron2's converted torchvision weights call the classifier `stem.fc`, not `linear`."""
    return rename(tensors, lambda name: re.sub(r"^stem\.fc\.", "linear.", name))


def from_caffe2(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Caffe2's blobs (conv1_w, res2_0_branch2a_bn_s, ...) under Detectron2's names.

    Older files have their norms' statistics merged into scale and shift: mean 0 and variance 1 are
    put in, less the norm's eps. A bias of the first convolution becomes part of its norm's mean,
    which is the same function.
    """
    keys = [key for key in tensors if not key.endswith("_momentum")]
    names = convert_basic_c2_names(keys)
    found = {
        re.sub(r"^(fc\d+|pred)\.", "linear.", name): tensors[key]
        for key, name in zip(keys, names, strict=True)
    }
    for name in [name for name in found if name.endswith(".norm.weight")]:
        stem = name.removesuffix("weight")
        ones = torch.ones_like(found[name])
        found.setdefault(f"{stem}running_mean", torch.zeros_like(ones))
        found.setdefault(f"{stem}running_var", ones - 1e-5)
    if "stem.conv1.bias" in found:
        mean = "stem.conv1.norm.running_mean"
        found[mean] = found[mean] - found.pop("stem.conv1.bias")
    return found


def format_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Whose names these are: "detectron2", "caffe2", "torchvision", or "" for neither."""
    if any(map(_is_stem, tensors)):
        return "detectron2"
    if {"conv1_w", "res2_0_branch2a_w"} <= tensors.keys():
        return "caffe2"
    if any(re.match(r"layer1\.0\.conv1\.", key) for key in tensors):
        return "torchvision"
    return ""


def rename(tensors: Mapping[str, torch.Tensor], function: Callable[[str], str]) -> Tensors:
    """Rename each tensor with `function`."""
    return {function(key): value for key, value in tensors.items()}


def _is_stem(key: str) -> bool:
    return key == _STEM or key.endswith(f".{_STEM}")
