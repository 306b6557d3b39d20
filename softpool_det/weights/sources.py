"""Files of weights, of whatever make, as tensors and what they show of their origin."""

from __future__ import annotations

import argparse
import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from detectron2.utils.file_io import PathManager
from safetensors.torch import load_file

from softpool_det.coco.checks import all_finite
from softpool_det.weights.layouts import Entry, choose, find_entries, state_dicts
from softpool_det.weights.metadata import WeightsMetadata, read_metadata
from softpool_det.weights.pickled_arrays import load_arrays
from softpool_det.weights.pickles import check_origin, find_fault, reason_of
from softpool_det.weights.variants import check_keys


@dataclass(frozen=True)
class Source:
    """A file of weights.

    Args:
        path: as the user gave it.
        file: on this machine.
        entry: the ResNet in it.
        others: names of the other ResNets in it.
        format: "torchvision", "timm", "detectron2" or "caffe2".
        author: that Detectron2's files name, "" in all others.
        metadata: softpool_det's own, where there is.
        timm_config: of the `config.json` that timm's files have beside them; may be empty.
    """

    path: str
    file: Path
    entry: Entry
    others: tuple[str, ...]
    format: str
    author: str
    metadata: WeightsMetadata | None
    timm_config: dict[str, Any]

    @property
    def wrapped(self) -> bool:
        """Whether a training program wrote it, so that its model may be anything."""
        return bool(self.entry.place)

    def sha256(self) -> str:
        """Hash the file; return hexadecimal digits."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def read_source(path: str, trust_pickle: bool = False, entry: str | None = None) -> Source:
    """Read a `.pth`, `.pt`, `.safetensors` or `.pkl` without running anything in it.

    Args:
        path: a path, or an address that Detectron2 can fetch, such as
            `detectron2://ImageNetPretrained/MSRA/R-50.pkl`.
        trust_pickle: take a `.pkl` that is not of Detectron2's model zoo.
        entry: which of several ResNets in the file, as :func:`choose` takes it.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: a `.pkl` from elsewhere.
        ValueError: the file holds no ResNet, but another network, which is named; it needs code to
            be read; or `entry` is not in it.
    """
    check_origin(path, trust_pickle)
    file = Path(PathManager.get_local_path(path) if "://" in path else path)
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    check_origin(path, trust_pickle, file)
    content = read_file(file)
    metadata = read_metadata(file) if file.suffix == ".safetensors" else None
    config = _read_timm_config(file) if metadata is None else {}
    author = content.get("__author__")
    try:
        entries = find_entries(content) or _refuse(content)
        chosen = choose(entries, entry)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found = chosen.format
    if found == "torchvision" and metadata is None and (config or file.suffix == ".safetensors"):
        found = "timm"
    return Source(
        path=path,
        file=file,
        entry=chosen,
        others=tuple(other.name for other in entries if other is not chosen),
        format=found,
        author=author if isinstance(author, str) else "",
        metadata=metadata,
        timm_config=config,
    )


def read_file(file: Path) -> Mapping[str, Any]:
    """Read what a `.pth`, `.pt`, `.safetensors` or `.pkl` holds without running anything in it.

    Raises:
        OSError: it cannot be read from the disk.
        ValueError: it is damaged, or holds more than tensors and plain values.
    """
    fault = find_fault(file)
    if fault is not None:
        raise ValueError(f"{file}: {fault}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix == ".pkl":
            content = load_arrays(file)
        else:
            # In the checkpoints of torchvision's, timm's and other training programs; plain data.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever bytes lead to
        raise ValueError(
            f"{file} holds more than tensors and plain values, or is not a checkpoint: "
            f"{reason_of(error)}. "
            "If you trust it, load it and save only its state dict with torch.save"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a state dict")
    return content


def _refuse(content: Mapping[str, Any]) -> NoReturn:
    """Name the network that is in a file without a ResNet."""
    found = [tensors for _, tensors in state_dicts(content)]
    if not found:
        shown = ", ".join(map(reprlib.repr, content)) or "{}"
        raise ValueError(f"it holds no tensors; it has {shown}")
    largest = max(found, key=len)
    check_keys(largest)
    raise ValueError(
        "no ResNet of torchvision, timm, Detectron2 or Caffe2: their first block's weight is "
        "layer1.0.conv1.weight, res2.0.conv1.weight or res2_0_branch2a_w; here: "
        f"{', '.join(list(largest)[:4])}, ..."
    )


def _read_timm_config(file: Path) -> dict[str, Any]:
    """Read the `config.json` beside timm's published files, {} if it is absent."""
    path = file.with_name("config.json")
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, beside the weights, is not a JSON file: {error}") from error
    values = config.get("pretrained_cfg") if isinstance(config, dict) else None
    if not isinstance(values, dict):
        return {}
    for key in ("mean", "std"):
        if key in values and not (all_finite(values[key]) and len(values[key]) == 3):
            raise ValueError(
                f"{path}: its {key} is {values[key]!r:.60}, not three finite numbers: one for each "
                "of red, green and blue"
            )
    return config
