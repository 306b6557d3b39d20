"""Whether weights and the model that loads them mean the same images, stem and strides."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
from torch import nn

from softpool_det.layers import changed_options
from softpool_det.modeling import PooledStem
from softpool_det.ops.temperatures import single_beta
from softpool_det.weights import WeightsMetadata
from softpool_det.weights.architecture import Architecture, count_blocks
from softpool_det.weights.layouts import find_entries
from softpool_det.weights.metadata import MAX_POOL, StemPool

OTHER_POOL_KEY = "MODEL.ALLOW_OTHER_STEM_POOL"


def check_weights(
    model: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    metadata: WeightsMetadata,
    allow_other_stem_pool: bool = False,
) -> None:
    """Refuse a ResNet's weights that would load and be of little worth in `model`.

    What the model does not show (a bare backbone has no pixel mean) is not compared.

    Args:
        model: a ResNet, or a detector around one.
        state_dict: the weights.
        metadata: what is recorded with them.
        allow_other_stem_pool: take weights that were trained with another pooling in the stem.

    Raises:
        ValueError: something differs; names the config keys (of YAML configs, and of LazyConfigs
            in parentheses), their values and those that would be right.
    """
    resnet = _find_resnet(model)
    if resnet is None:
        raise ValueError(f"the weights are a {metadata.architecture}'s, the model has no ResNet")
    faults = [
        *_shapes(resnet, state_dict, metadata),
        *_strides(resnet, metadata),
        *_images(model, metadata),
    ]
    if not allow_other_stem_pool:
        faults += _stem_pool(resnet, metadata.stem_pool)
    if faults:
        raise ValueError(
            f"the config does not fit the weights ({metadata.architecture}, from "
            f"{metadata.source_file or 'an unnamed source'}):\n  " + "\n  ".join(faults)
        )


def stem_pool_of(model: nn.Module) -> StemPool | None:
    """Return the pooling in the stem of the model's ResNet, or None if it is unknown."""
    resnet = _find_resnet(model)
    return None if resnet is None else _pool_of(resnet.stem)


def check_stem_pool(model: nn.Module, recorded: Mapping[str, Any], filename: str) -> None:
    """Refuse a checkpoint of a model whose stem pooled otherwise.

    Args:
        recorded: what `dataclasses.asdict` gave of that stem's `StemPool`.

    Raises:
        ValueError: they differ; names both poolings and the config keys, or `recorded` is invalid.
    """
    try:
        wanted = StemPool(**recorded)
    except TypeError as error:
        raise ValueError(
            f"{filename}: its stem_pool {reprlib.repr(recorded)} is not valid: {error}"
        ) from None
    resnet = _find_resnet(model)
    faults = [] if resnet is None else _stem_pool(resnet, wanted)
    if faults:
        raise ValueError(f"{filename}: {faults[0]}")


def check_names(model: nn.Module, content: Mapping[str, Any], filename: str) -> list[str]:
    """Refuse names that cannot match, rather than train from scratch.

    Args:
        content: of the file; its "model" is what will be loaded.

    Returns:
        The names of other ResNets in the file, such as an average of the weights.

    Raises:
        ValueError: the file's ResNet has torchvision's names, or is in another entry; says how to
            convert it.
    """
    if _find_resnet(model) is None:
        return []
    entries = find_entries(content)
    loaded = [entry for entry in entries if entry.path == ("model",)]
    remedy = f"convert it: softpool-convert-weights {filename} NEW.safetensors"
    if any(entry.format == "torchvision" for entry in loaded):
        raise ValueError(
            f"{filename} has torchvision's names (layer1.0.conv1.weight), the model Detectron2's "
            f"(res2.0.conv1.weight); {remedy}"
        )
    others = [entry.name.removeprefix("model.") for entry in entries if entry.path != ("model",)]
    if others and not loaded:
        raise ValueError(
            f"{filename} keeps its ResNet under {others[0]!r}, but Detectron2 reads only 'model'; "
            f"{remedy}"
        )
    return others


def _find_resnet(model: nn.Module) -> ResNet | None:
    return next((module for module in model.modules() if isinstance(module, ResNet)), None)


def _shapes(
    resnet: ResNet, state_dict: Mapping[str, torch.Tensor], metadata: WeightsMetadata
) -> list[str]:
    model = resnet.state_dict()
    # Where a detector's heads keep res5, the backbone lacks it.
    blocks = {stage: count for stage, count in count_blocks(model).items() if count}
    have = count_blocks(state_dict)
    wrong = [
        f"{stage} has {count} blocks instead of {have[stage]}"
        for stage, count in blocks.items()
        if count != have[stage]
    ]
    wrong += [
        f"{key} is {tuple(model[key].shape)} instead of {tuple(value.shape)}"
        for key, value in state_dict.items()
        if key in model and model[key].shape != value.shape and not key.startswith("linear.")
    ]
    if not wrong:
        return []
    keys = Architecture.from_name(metadata.architecture).config()
    config = ", ".join(f"MODEL.RESNETS.{key} {value}" for key, value in keys.items())
    return [
        f"the model is not a {metadata.architecture}: {wrong[0]}; the weights need {config} "
        "(stages, of ResNet.make_default_stages or make_stage)"
    ]


def _strides(resnet: ResNet, metadata: WeightsMetadata) -> list[str]:
    for block in resnet.modules():
        if isinstance(block, BottleneckBlock) and block.stride == 2:
            found = block.conv1.stride in (2, (2, 2))
            if found == metadata.stride_in_1x1:
                return []
            return [_fault("RESNETS.STRIDE_IN_1X1", "stride_in_1x1", found, not found)]
    return []


def _images(model: nn.Module, metadata: WeightsMetadata) -> list[str]:
    faults = []
    for name in ("pixel_mean", "pixel_std"):
        found, wanted = getattr(model, name, None), list(getattr(metadata, name))
        if isinstance(found, torch.Tensor):
            values = [round(value, 3) for value in found.flatten().tolist()]
            if len(values) != 3 or not np.allclose(values, wanted, rtol=0, atol=0.01):
                faults.append(_fault(name.upper(), f"model.{name}", values, wanted))
    found = getattr(model, "input_format", None)
    if found is not None and found != metadata.channel_order:
        lazy = "model.input_format and dataloader.*.mapper.image_format"
        faults.append(_fault("INPUT.FORMAT", lazy, found, metadata.channel_order, prefix=""))
    return faults


def _stem_pool(resnet: ResNet, wanted: StemPool) -> list[str]:
    found = _pool_of(resnet.stem)
    if found is None or found.takes_weights_of(wanted):
        return []
    if wanted.window == MAX_POOL.window:
        remedy = "take the stock backbone (MODEL.BACKBONE.NAME without softpool_)"
    else:
        remedy = (
            "take a softpool_ backbone (MODEL.BACKBONE.NAME) with MODEL.STEM_POOL.NAME "
            f"{wanted.name}, KERNEL_SIZE {wanted.kernel_size}, PADDING {wanted.padding}"
        )
        if wanted.learn_beta != "no":
            remedy += f', LEARN_BETA "{wanted.learn_beta}"'
        elif wanted.beta != found.beta:
            remedy += f", BETA {wanted.beta}"
        if wanted.options:
            remedy += f", OPTIONS {[part for pair in wanted.options.items() for part in pair]}"
    return [
        f"the stem pools with {found}, the weights were trained with {wanted}: {remedy} "
        "(model.backbone.bottom_up.stem), take weights that were trained with the model's pooling, "
        f"or set {OTHER_POOL_KEY} True (train.allow_other_stem_pool=true) to start from these"
    ]


def _pool_of(stem: nn.Module) -> StemPool | None:
    if type(stem) is BasicStem:
        return MAX_POOL
    return describe_pool(stem.pool) if isinstance(stem, PooledStem) else None


def describe_pool(pool: nn.Module) -> StemPool:
    """Describe a stem's pooling as weights' metadata do."""
    window = {
        name: _single(getattr(pool, name, None)) for name in ("kernel_size", "stride", "padding")
    }
    return StemPool(
        type(pool).__name__,
        **window,
        ceil_mode=bool(getattr(pool, "ceil_mode", False)),
        gradient=getattr(pool, "gradient", "paper"),
        beta=single_beta(pool),
        learn_beta=getattr(pool, "learn_beta", "no"),
        options=changed_options(pool),
    )


def _single(size: Any) -> Any:
    """Return an int if all sides are alike; else a list, as JSON has it."""
    if isinstance(size, tuple | list):
        return size[0] if len(set(size)) == 1 else list(size)
    return size


def _fault(key: str, lazy: str, found: Any, wanted: Any, prefix: str = "MODEL.") -> str:
    return f"{prefix}{key} ({lazy}) is {found}, the weights need {wanted}"
