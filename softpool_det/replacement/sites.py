"""Where a model pools, in the order of execution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .forward import Call, CannotTraceError, mentions_pooling, steps
from .poolings import is_pooling


@dataclass(frozen=True)
class Site:
    """A pooling, or a convolution (`select` looks for the one that reads the image)."""

    name: str
    module: nn.Module  # for a functional pooling, one that does the same
    call: Call | None = None
    owner: nn.Module | None = None  # whose forward has the call


@dataclass(frozen=True)
class Unknown:
    """A module that may call functional poolings, nobody knows where."""

    name: str
    module: nn.Module
    reason: str


def find_sites(model: nn.Module) -> Iterator[Site | Unknown]:
    """Poolings and convolutions of `model`, and modules that could not be looked into.

    The order is the one in which modules were defined and, where a forward that calls functional
    poolings could be traced, the one in which it calls them and its children.
    """
    yield from _walk(model, "", set())


def is_basic_stem(module: nn.Module) -> bool:
    """Whether `module` is Detectron2's ResNet stem, for which there is a `PooledStem`."""
    # No model has one where nobody imported it.
    resnet = sys.modules.get("detectron2.modeling.backbone.resnet")
    return resnet is not None and type(module) is resnet.BasicStem


def _walk(module: nn.Module, name: str, seen: set[int]) -> Iterator[Site | Unknown]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if is_pooling(module) or isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        yield Site(name, module)
        return
    if mentions_pooling(module):
        try:
            found = steps(module)
        except CannotTraceError as error:
            yield Unknown(name, module, str(error))
            found = []
        for step in found:
            if isinstance(step, Call):
                # The attribute of PooledStem that it will be.
                attribute = "pool" if is_basic_stem(module) else step.name
                yield Site(_join(name, attribute), step.pool, step, module)
            else:
                yield from _walk(module.get_submodule(step), _join(name, step), seen)
    for child_name, child in module.named_children():
        yield from _walk(child, _join(name, child_name), seen)


def _join(name: str, attribute: str) -> str:
    return f"{name}.{attribute}" if name else attribute
