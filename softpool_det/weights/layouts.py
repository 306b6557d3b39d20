"""Where a file keeps ResNets: in which of its entries, under which prefix, with which heads."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softpool_det.weights.names import Tensors
from softpool_det.weights.values import as_tensors, check_values

# What stands before the names of a whole ResNet: the first block gives it away.
_TORCHVISION = re.compile(r"((?:.*\.)?)layer1\.0\.conv1\.")
_DETECTRON2 = re.compile(r"((?:.*\.)?)stem\.conv1\.weight")
# torch.nn.Sequential(*resnet.children()), without the classifier.
_SEQUENTIAL = re.compile(r"((?:.*\.)?)4\.0\.conv1\.weight")
_CHILDREN = {
    "0": "conv1",
    "1": "bn1",
    **{str(stage + 3): f"layer{stage}" for stage in (1, 2, 3, 4)},
}
# Wrappers of modules, which say nothing of what is in them.
_SILENT = {"module", "_orig_mod"}
# Of several ResNets the trained one is taken, not its average (of MoCo the encoder of queries, of
# BYOL the online one), except of DINO, whose teacher is what its authors publish.
_SECOND_CHOICE = re.compile(
    r"(^|[._])(ema|averaged?|avg|swa|momentum|encoder_k|key_encoder|target|student)([._]|$)",
    re.IGNORECASE,
)
# How methods without labels name their parts. Their classifier `fc`, if any, is a projection.
_METHODS = {
    "MoCo": r"(^|\.)(encoder_q|base_encoder)\.|(^|\.)queue$",
    "SwAV": r"(^|\.)prototypes\b",
    "BYOL": r"(^|\.)(online|target)_(net|network|encoder)",
    "DINO": r"(^|\.)head\.(last_layer|mlp)\.",
    "SimSiam": r"^((module|model)\.)?predictor\.",
    "SimCLR, Barlow Twins or their like": r"(^|\.)(projector|projection_head)\.",
}
_PARTS = re.compile(r"(stem|res[2-5]|linear)\.")
# Inside a ResNet: no part of it.
_HEAD = re.compile(r"(fc\.\d+|projector|projection_head|predictor|prototypes)\.")


@dataclass(frozen=True)
class Entry:
    """A ResNet in a file.

    Args:
        path: the keys that lead to the state dict that it is in.
        prefix: of its names there, wrappers such as `module.` included.
        tensors: under the names after the prefix.
        format: "torchvision", "detectron2" or "caffe2".
        method: the self-supervised method that trained it, "" where none is known.
        left_out: what else is in that state dict, by the names there.
    """

    path: tuple[str, ...]
    prefix: str
    tensors: Tensors
    format: str
    method: str
    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """With dots: "state_dict", "teacher.backbone", "" for a file that is its state dict."""
        parts = [part for part in self.prefix.split(".") if part and part not in _SILENT]
        return ".".join([*self.path, *parts])

    @property
    def place(self) -> str:
        """What stands before each name of a tensor in the file."""
        return ".".join([*self.path, self.prefix])


def find_entries(content: Mapping[str, Any]) -> list[Entry]:
    """Find all ResNets in a file, in its order."""
    return [
        _entry(path, values, form, prefix)
        for path, values in state_dicts(content)
        for form, prefix in _places(values)
    ]


def choose(entries: list[Entry], name: str | None = None) -> Entry:
    """Choose an entry by name or, without one, the trained weights rather than their average.

    Args:
        entries: of a file, one or more.
        name: an entry's, or what it begins or ends with.

    Raises:
        ValueError: none or several are meant; lists the names.
    """
    if name is None:
        meant = [entry for entry in entries if not _SECOND_CHOICE.search(entry.name)] or entries
        problem = "holds several ResNets"
    else:
        meant = [entry for entry in entries if entry.name == name] or [
            entry for entry in entries if f".{name}." in f".{entry.name}."
        ]
        problem = f"has several entries {name!r}" if meant else f"has no entry {name!r}"
    if len(meant) != 1:
        names = ", ".join(repr(entry.name) for entry in meant or entries)
        raise ValueError(f"{problem}; pass --entry with one of: {names}")
    return meant[0]


def state_dicts(
    content: Mapping[Any, Any], depth: int = 3
) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Find all tensors in mappings of mappings.

    Args:
        content: of a file.
        depth: mappings below so many keys are looked at.

    Yields:
        Keys that lead to a mapping, and the tensors in it by name.
    """
    waiting: deque[tuple[tuple[str, ...], Mapping[Any, Any]]] = deque([((), content)])
    seen: set[int] = set()
    while waiting:
        path, mapping = waiting.popleft()
        # The same mapping under many keys costs a file nothing.
        if id(mapping) in seen:
            continue
        seen.add(id(mapping))
        named = {str(key): value for key, value in mapping.items() if isinstance(key, str | int)}
        tensors = as_tensors(named)
        if tensors:
            yield path, tensors
        if len(path) < depth:
            waiting += [
                ((*path, key), value) for key, value in named.items() if isinstance(value, Mapping)
            ]


def check_states(content: Mapping[Any, Any], file: str | Path) -> None:
    """Refuse tensors in mappings of mappings, as :func:`check_values` does.

    Args:
        content: of a training's checkpoint.
        file: that it comes from, for the error.
    """
    for path, tensors in state_dicts(content, depth=8):
        check_values(tensors, file, ".".join([*path, ""]))


def _places(tensors: Tensors) -> dict[tuple[str, str], None]:
    """List formats and prefixes, in the order of the keys."""
    found: dict[tuple[str, str], None] = {}
    if {"conv1_w", "res2_0_branch2a_w"} <= tensors.keys():
        found["caffe2", ""] = None
    for key in tensors:
        if match := _TORCHVISION.match(key):
            found["torchvision", match[1]] = None
        elif (match := _DETECTRON2.fullmatch(key)) and f"{match[1]}res2.0.conv1.weight" in tensors:
            found["detectron2", match[1]] = None
        elif (match := _SEQUENTIAL.fullmatch(key)) and f"{match[1]}0.weight" in tensors:
            found["sequential", match[1]] = None
    return found


def _entry(path: tuple[str, ...], values: Tensors, form: str, prefix: str) -> Entry:
    method = "" if form in ("detectron2", "caffe2") else _method_of([*path, *values])
    others = tuple(other for _, other in _places(values) if other != prefix)
    nested = tuple(other for other in others if other.startswith(prefix))
    inside = {
        key: key[len(prefix) :]
        for key in values
        if key.startswith(prefix) and not key.startswith(nested)
    }
    if form == "detectron2":
        inside = {key: name for key, name in inside.items() if _PARTS.match(name)}
    elif form != "caffe2":
        inside = _torchvision_names(inside, form, method)
        if prefix.endswith("backbone.") and not method:  # OpenMMLab's classifiers
            head = prefix.removesuffix("backbone.") + "head.fc."
            inside |= {key: f"fc.{key[len(head) :]}" for key in values if key.startswith(head)}
    return Entry(
        path=path,
        prefix=prefix,
        tensors={name: values[key] for key, name in inside.items()},
        format="torchvision" if form == "sequential" else form,
        method=method,
        left_out=tuple(
            key
            for key in values
            if key not in inside and not key.startswith(tuple(filter(None, others)))
        ),
    )


def _torchvision_names(names: dict[str, str], form: str, method: str) -> dict[str, str]:
    """Without heads; the names in the file, and those of torchvision."""
    if form == "sequential":
        children = {key: name.partition(".") for key, name in names.items()}
        names = {
            k: f"{_CHILDREN.get(child, child)}.{rest}" for k, (child, _, rest) in children.items()
        }
    return {
        key: name
        for key, name in names.items()
        if not _HEAD.match(name) and not (method and name.startswith("fc."))
    }


def _method_of(names: list[str]) -> str:
    found = (
        method
        for method, pattern in _METHODS.items()
        if any(re.search(pattern, name) for name in names)
    )
    return next(found, "")
