"""Weights of any make for Detectron2's ResNet, and back for torchvision's."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from softpool_det.io.atomic import replacing
from softpool_det.io.version import __version__
from softpool_det.weights.architecture import Architecture, check_state_dict
from softpool_det.weights.metadata import (
    MAX_POOL,
    StemPool,
    WeightsMetadata,
    save_weights,
)
from softpool_det.weights.names import (
    Tensors,
    detectron2_to_torchvision,
    from_caffe2,
    from_detectron2,
    rename,
    torchvision_to_detectron2,
)
from softpool_det.weights.origin import Convention, convention_of, stem_pool_of, stem_pool_shown
from softpool_det.weights.sources import Source, read_source
from softpool_det.weights.values import check_values
from softpool_det.weights.variants import check_keys, check_name, check_stem


@dataclass(frozen=True)
class Weights:
    """A ResNet's weights under the keys of Detectron2's.

    Args:
        tensors: the weights.
        metadata: what they do not show.
        notes: which part of the file they are, a line for each thing to know; may be empty.
    """

    tensors: Tensors
    metadata: WeightsMetadata
    notes: tuple[str, ...] = ()


def read_weights(
    path: str,
    *,
    stem_pool: StemPool | None = None,
    convention: str | None = None,
    architecture: str | None = None,
    trust_pickle: bool = False,
    entry: str | None = None,
) -> Weights:
    """Read a ResNet's weights of torchvision, timm, the SoftPool authors or Detectron2.

    Args:
        path: a file, or an address that Detectron2 can fetch.
        stem_pool: what the weights were trained with; needed where `path` leaves it open.
        convention: a key of :data:`softpool_det.weights.origin.CONVENTIONS`; likewise.
        architecture: torchvision's name of the model; inferred from shapes without it.
        trust_pickle: take a `.pkl` that is not of Detectron2's model zoo.
        entry: which of several ResNets in the file, such as "model_ema"; without it, the trained
            one rather than its average.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as :func:`read_source`.
        ValueError: no ResNet that Detectron2 builds, or something that must be said was not. Names
            the keys that show it, or the option to give. Or the ResNet's weights are not finite;
            others in the file are not checked.
    """
    source = read_source(path, trust_pickle, entry)
    check_name(architecture or _name_of(source))
    try:
        tensors = _to_detectron2(source)
        found = Architecture.infer(tensors) if architecture is None else None
        found = found or Architecture.from_name(str(architecture))
        shown = stem_pool_shown(source, tensors)
        num_classes = check_state_dict(tensors, found, shown)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    check_values(source.entry.tensors, path, source.entry.place)
    chosen = convention_of(source, found, convention)
    pool = stem_pool_of(source, stem_pool, shown.learn_beta)
    return Weights(tensors, _metadata(source, found, num_classes, chosen, pool), _notes(source))


def write_weights(path: str | Path, weights: Weights, to: str = "detectron2") -> None:
    """Write weights for Detectron2 or for torchvision, atomically.

    Args:
        path: `.safetensors`, with the metadata in its header; for torchvision also `.pth`, a state
            dict without it.
        weights: what :func:`read_weights` gave.
        to: "detectron2" or "torchvision".

    Raises:
        ValueError: torchvision has no such model, or `path` ends otherwise.
    """
    if to == "detectron2":
        save_weights(path, weights.tensors, weights.metadata)
        return
    path, metadata = Path(path), weights.metadata
    if metadata.stride_in_1x1 or metadata.channel_order != "RGB":
        raise ValueError(
            f"torchvision has no model for these weights: they take {metadata.channel_order} images"
            f" and have the stride in the {'1x1' if metadata.stride_in_1x1 else '3x3'} convolutions"
            ", its ResNets take RGB and have it in the 3x3"
        )
    if path.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"torchvision's weights are .safetensors or .pth, got {path}")
    tensors = rename(weights.tensors, detectron2_to_torchvision)
    with replacing(path) as temporary:
        if path.suffix == ".pth":
            torch.save(tensors, temporary)
        else:
            save_file(tensors, temporary, metadata.to_header())


def describe(weights: Weights, to: str = "detectron2") -> str:
    """Describe a source, and what a model has to know to use it, in a few lines."""
    metadata = weights.metadata
    lines = [
        f"{metadata.architecture}, {len(weights.tensors)} tensors, "
        f"{metadata.num_classes or 'no'} classes, from {metadata.source_format}'s keys",
        f"trained with {metadata.stem_pool} in the stem",
        *weights.notes,
    ]
    if to == "torchvision":
        if metadata.stem_pool.window != MAX_POOL.window:
            lines.append("torchvision's own model has another pooling in `maxpool`: replace it")
        return "\n".join(lines)
    found = Architecture.from_name(metadata.architecture)
    resnets: dict[str, object] = dict(found.config())
    if found.has_bottlenecks:
        resnets["STRIDE_IN_1X1"] = metadata.stride_in_1x1
    lines += [
        "a config for it says:",
        "  MODEL:",
        "    RESNETS: {" + ", ".join(f"{key}: {value}" for key, value in resnets.items()) + "}",
        f"    PIXEL_MEAN: {list(metadata.pixel_mean)}",
        f"    PIXEL_STD: {list(metadata.pixel_std)}",
        f"  INPUT: {{FORMAT: {metadata.channel_order}}}",
    ]
    return "\n".join(lines)


def _to_detectron2(source: Source) -> Tensors:
    tensors = source.entry.tensors
    if source.format == "caffe2":
        return from_caffe2(tensors)
    if source.format == "detectron2":
        found = from_detectron2(tensors)
    else:
        if source.metadata is None:
            check_keys(tensors)
        found = rename(tensors, torchvision_to_detectron2)
    if "stem.conv1.weight" in found:
        check_stem(found["stem.conv1.weight"])
    return found


def _notes(source: Source) -> tuple[str, ...]:
    entry, notes = source.entry, []
    if source.others:
        others = ", ".join(source.others)
        notes.append(f"took {entry.name}; the file also holds {others} (--entry selects them)")
    elif entry.name:
        notes.append(f"took {entry.name}")
    if entry.method:
        notes.append(f"self-supervised ({entry.method}): the backbone without its projection head")
    if entry.left_out:
        shown = ", ".join(entry.left_out[:3]) + (", ..." if len(entry.left_out) > 3 else "")
        notes.append(f"tensors left out: {len(entry.left_out)} ({shown})")
    return tuple(notes)


def _metadata(
    source: Source,
    architecture: Architecture,
    num_classes: int,
    convention: Convention,
    stem_pool: StemPool,
) -> WeightsMetadata:
    return WeightsMetadata(
        architecture=architecture.name,
        stem_pool=stem_pool,
        pixel_mean=convention.pixel_mean,
        pixel_std=convention.pixel_std,
        channel_order=convention.channel_order,
        stride_in_1x1=convention.stride_in_1x1 and architecture.has_bottlenecks,
        num_classes=num_classes,
        source_file=source.file.name,
        source_sha256=source.sha256(),
        source_format=source.format,
        converter_version=__version__,
        command=shlex.join(["python", *sys.argv]),
    )


def _name_of(source: Source) -> str:
    """Where an architecture may be named: beside the file, in its name, in a hub's cache folder."""
    folders = [part for part in source.file.parts if part.startswith("models--")]
    return str(source.timm_config.get("architecture") or "/".join([*folders, source.file.name]))
