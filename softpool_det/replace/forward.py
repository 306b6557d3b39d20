"""Functional poolings in a module's forward, found with torch.fx."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from softpool_det.replace.windows import AVG_POOLS, MAX_POOLS

_MAX_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG_ARGUMENTS = (
    *("kernel_size", "stride", "padding", "ceil_mode"),
    *("count_include_pad", "divisor_override"),
)
_WITH_INDICES = (F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)
_FUNCTIONS: dict[Callable, type[nn.Module]] = {
    F.avg_pool1d: AVG_POOLS[1],
    F.avg_pool2d: AVG_POOLS[2],
    F.avg_pool3d: AVG_POOLS[3],
    F.max_pool1d: MAX_POOLS[1],
    F.max_pool2d: MAX_POOLS[2],
    F.max_pool3d: MAX_POOLS[3],
    torch.max_pool1d: MAX_POOLS[1],
    torch.max_pool2d: MAX_POOLS[2],
    torch.max_pool3d: MAX_POOLS[3],
    **{function: MAX_POOLS[dims] for dims, function in enumerate(_WITH_INDICES, start=1)},
}
_NAMES = {function.__name__ for function in _FUNCTIONS}


class CannotTraceError(Exception):
    """torch.fx cannot say what a forward does; the message says why."""


@dataclass(frozen=True)
class Call:
    """A call of a functional pooling in the forward of a module."""

    node: str  # its name in the graph
    name: str  # the attribute that the replacement becomes
    function: str
    pool: nn.Module  # the module that does the same


class _OneForward(fx.Tracer):
    """Traces one forward: what it calls stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def mentions_pooling(module: nn.Module) -> bool:
    """Whether a method of the module's class, or a function beside it, names a functional pooling.

    Only such modules are traced: tracing runs the forward, and most cannot be traced.
    """
    return any(not _NAMES.isdisjoint(_names(code)) for code in _methods(type(module)))


def calls_pooling(graph: fx.Graph) -> bool:
    """Whether the graph calls a functional pooling, or what torch.export makes of any pooling."""
    return any(
        node.target in _FUNCTIONS
        or (isinstance(node.target, torch._ops.OpOverload) and "pool" in str(node.target))
        for node in graph.nodes
    )


def steps(module: nn.Module) -> list[str | Call]:
    """List the children (by name) and functional poolings that forward calls, in order.

    A pooling whose window depends on the input, a global one, is not among them.

    Raises:
        CannotTraceError: forward cannot be traced, or not without changing what it does.
    """
    found: list[str | Call] = []
    done = vars(module).get("_softpool_calls", {})
    for node in trace(module).nodes:
        if node.name in done:
            found.append(done[node.name])
            continue
        if node.op == "call_module":
            found.append(str(node.target))
        pool = _as_module(node)
        if pool is not None:
            name = node.name
            while hasattr(module, name):
                name += "_"
            found.append(Call(node.name, name, node.target.__name__, pool))
    return found


def trace(module: nn.Module) -> fx.Graph:
    """Trace the forward that the module's class had before any was rewritten.

    So a call has the same name in it always. See `steps` for what is raised.
    """
    cls = type(module)
    training, before = module.training, dict(vars(module))
    graphs = []
    try:
        module.__class__ = getattr(cls, "_softpool_base", cls)
        _check_traceable(module)
        for mode in (True, False):
            module.training = mode
            graphs.append(_OneForward().trace(module))
        changed = {**vars(module), "training": training} != before
    except CannotTraceError:
        raise
    except Exception as error:  # whatever a forward does with a proxy
        reason = str(error).split(". ")[0]
        raise CannotTraceError(f"torch.fx cannot trace its forward: {reason}") from error
    finally:
        module.__class__ = cls
        vars(module).clear()
        vars(module).update(before)
    if changed:
        raise CannotTraceError("its forward changes attributes of the module")
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        raise CannotTraceError("its forward differs between training and evaluation")
    return graphs[0]


def _check_traceable(module: nn.Module) -> None:
    if "forward" in vars(module):
        raise CannotTraceError("its forward was replaced on the object")
    forward = type(module).forward
    if any(p.default is not p.empty for p in inspect.signature(forward).parameters.values()):
        # A proxy stands for the argument: torch.fx would take it as given.
        raise CannotTraceError("its forward has optional arguments")
    if any("isinstance" in _names(code) for code in _methods(type(module))):
        raise CannotTraceError("it asks for types, which tracing would settle for good")


def _methods(cls: type) -> Iterator[CodeType]:
    """Code of the methods but __init__, and of functions of the same file that they name."""
    for base in cls.__mro__:
        if base is nn.Module:
            return
        for name, method in vars(base).items():
            method = getattr(method, "__func__", method)
            if name == "__init__" or not isinstance(method, FunctionType):
                continue
            yield method.__code__
            for used in method.__code__.co_names:
                helper = method.__globals__.get(used)
                if isinstance(helper, FunctionType) and helper.__module__ == method.__module__:
                    yield helper.__code__


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _as_module(node: fx.Node) -> nn.Module | None:
    if node.op != "call_function" or node.target not in _FUNCTIONS:
        return None
    layer = _FUNCTIONS[node.target]
    names = _MAX_ARGUMENTS if layer in MAX_POOLS.values() else _AVG_ARGUMENTS
    arguments = {
        name: argument(node, name, position) for position, name in enumerate(names, start=1)
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if node.target in _WITH_INDICES:
        arguments["return_indices"] = True
    try:
        fx.node.map_arg(arguments, _refuse)
    except _DependsOnInputError:
        return None
    return layer(**arguments)


def argument(node: fx.Node, name: str, position: int) -> Any:
    """Return an argument of a call, given by position or by name; None if absent."""
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


class _DependsOnInputError(Exception):
    pass


def _refuse(node: fx.Node) -> fx.Node:
    raise _DependsOnInputError
