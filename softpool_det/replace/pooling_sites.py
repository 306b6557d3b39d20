"""Where a model pools, in the order of execution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from softpool_det.replace.forward import (
    Call,
    CannotTraceError,
    calls_pooling,
    mentions_pooling,
    steps,
)
from softpool_det.replace.windows import is_pooling

_FIXED = (
    "model was {} and cannot be changed any more: call replace_pooling on the original module, "
    "then {} it again"
)


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

    The order is that of definition. Inside a forward that calls functional poolings and could be
    traced, it is that of its calls.
    """
    yield from _walk(model, "", set())


def check_model(model: Any) -> None:
    """Refuse anything that is not a module, or one whose operations cannot be replaced any more.

    Raises:
        TypeError: `model` is not a module, or was scripted, traced or exported.
        ValueError: it is quantized.
    """
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise TypeError(_FIXED.format("scripted or traced (torch.jit)", "script or trace"))
    exported = isinstance(model, (torch.export.ExportedProgram, torch.export.UnflattenedModule))
    if not exported and not isinstance(model, nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model must be a torch.nn.Module, got {got}")
    if exported or _is_exported(model):
        raise TypeError(_FIXED.format("exported (torch.export)", "export"))
    # No model has a quantized module where nobody imported them.
    quantized: Any = sys.modules.get("torch.ao.nn.quantized.modules.conv")
    for name, module in model.named_modules() if quantized else ():
        # Dynamic ones pass floats on.
        if isinstance(module, quantized._ConvNd) and "dynamic" not in type(module).__module__:
            raise ValueError(
                f"model is quantized ({name or 'model'}), and SoftPool needs floating-point input: "
                "call replace_pooling on the float model, then quantize it again"
            )


def _is_exported(model: nn.Module) -> bool:
    graph = _graph(model)
    return graph is not None and any(
        isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten"
        for node in graph.nodes
    )


def _graph(module: nn.Module) -> fx.Graph | None:
    """Return the graph that a torch.fx.GraphModule or a part of an unflattened export runs."""
    state = vars(module)
    graph = state.get("_graph", state.get("graph"))
    return graph if isinstance(graph, fx.Graph) else None


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
    if isinstance(module, torch.jit.ScriptModule):
        yield Unknown(
            name, module, "it was scripted or traced (torch.jit): replace its poolings before that"
        )
        return
    graph = _graph(module)
    if graph is not None:
        if calls_pooling(graph):
            reason = "it calls poolings in a torch.fx graph: replace them before tracing"
            yield Unknown(name, module, reason)
    elif mentions_pooling(module):
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
