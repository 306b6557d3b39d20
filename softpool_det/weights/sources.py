"""Files of weights, of whatever make, as tensors and what can be told of their origin."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from safetensors.torch import load_file

from softpool_det.archives import find_damage
from softpool_det.weights.metadata import WeightsMetadata, read_metadata
from softpool_det.weights.names import Tensors, format_of
from softpool_det.weights.pickled_arrays import load_arrays
from softpool_det.weights.pickles import check_origin, reason_of

# Where training programs keep a model's weights among other things.
_WRAPPERS = ("state_dict", "model", "blobs")


@dataclass(frozen=True)
class Source:
    """A file of weights.

    Args:
        path: as the user gave it.
        file: on this machine.
        tensors: under the names that they have there, but for `module.` before each.
        format: "torchvision", "timm", "detectron2", "caffe2", or "" for none that is known.
        wrapped: whether a training program wrote it, so that its model may be anything.
        author: that Detectron2's files name, "" in all others.
        metadata: softpool_det's own, where there is.
        timm_config: of the `config.json` that timm's files have beside them; may be empty.
    """

    path: str
    file: Path
    tensors: Tensors
    format: str
    wrapped: bool
    author: str
    metadata: WeightsMetadata | None
    timm_config: dict[str, Any]

    def sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def read_source(path: str, trust_pickle: bool = False) -> Source:
    """Read a `.pth`, `.pt`, `.safetensors` or `.pkl` without running anything in it.

    Args:
        path: a path, or an address that Detectron2 can fetch, such as
            `detectron2://ImageNetPretrained/MSRA/R-50.pkl`.
        trust_pickle: take a `.pkl` that is not of Detectron2's model zoo.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: a `.pkl` from elsewhere.
        ValueError: the file holds something else than weights, or needs code to be read.
    """
    check_origin(path, trust_pickle)
    file = Path(PathManager.get_local_path(path) if "://" in path else path)
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    check_origin(path, trust_pickle, file)
    content = _read(file)
    metadata = read_metadata(file) if file.suffix == ".safetensors" else None
    config = _read_timm_config(file) if metadata is None else {}
    author = str(content.get("__author__", ""))
    tensors, wrapped = _unwrap(content)
    if not tensors:
        raise ValueError(f"{path} holds no tensors; it has {', '.join(map(repr, content)) or '{}'}")
    found = format_of(tensors)
    if found == "torchvision" and metadata is None and (config or file.suffix == ".safetensors"):
        found = "timm"
    return Source(path, file, tensors, found, wrapped, author, metadata, config)


def _read(file: Path) -> Mapping[str, Any]:
    damage = find_damage(file) if zipfile.is_zipfile(file) else None
    if damage is not None:
        raise ValueError(f"{file}: {damage}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix == ".pkl":
            content = load_arrays(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever bytes lead to
        raise ValueError(
            f"{file} holds more than tensors and plain values, or is no checkpoint: "
            f"{reason_of(error)}. "
            "Where you trust it, load it and save its state dict alone with torch.save"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a state dict")
    return content


def _unwrap(content: Mapping[str, Any]) -> tuple[Tensors, bool]:
    wrapped = False
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content, wrapped = content[key], True
    tensors = {key: value for key, value in content.items() if _is_array(value)}
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
        wrapped = True
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, wrapped


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _read_timm_config(file: Path) -> dict[str, Any]:
    """What timm's published files say in the `config.json` beside them, {} where there is none."""
    path = file.with_name("config.json")
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}, beside the weights, is no JSON file: {error}") from error
    return config if isinstance(config, dict) and "pretrained_cfg" in config else {}
