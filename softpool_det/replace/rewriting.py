"""A forward that calls modules where it called functional poolings."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from softpool_det.replace.forward import argument, trace


def rewrite(module: nn.Module, pools: dict[str, tuple[str, nn.Module]]) -> None:
    """Make `module` call modules of its own in place of functional poolings.

    The module stays the same object with the same parameters, buffers and hooks. Its class becomes
    a subclass of its own with another forward, as with `torch.nn.utils.parametrize`.

    Args:
        pools: by the name of the call's node, the attribute and the module to call instead.
    """
    for name, pool in pools.values():
        module.add_module(name, pool)
    calls = {node: name for node, (name, _) in pools.items()}
    vars(module)["_softpool_calls"] = {**vars(module).get("_softpool_calls", {}), **calls}
    _take_class(module)


def _take_class(module: nn.Module) -> None:
    cls: Any = type(module)
    base = getattr(cls, "_softpool_base", cls)
    module.__class__ = _subclass(base, forward=_forward(module))


def _subclass(base: type[nn.Module], **methods: Any) -> type[nn.Module]:
    namespace = {
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        "__reduce_ex__": _reduce,
        "__setstate__": _set_state,
        "_softpool_base": base,
    }
    return type(base.__name__, (base,), {**namespace, **methods})


def _forward(module: Any) -> Any:
    graph, calls = trace(module), module._softpool_calls
    for node in list(graph.nodes):
        if node.name not in calls:
            continue
        with graph.inserting_before(node):
            call = graph.call_module(calls[node.name], (argument(node, "input", 0),))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    traced: Any = type(fx.GraphModule(module, graph))
    return traced.forward


# Copies and pickles hold the class that was written down somewhere; the forward is traced again.
def _reduce(self: Any, protocol: int) -> tuple:
    return _blank, (self._softpool_base,), vars(self)


def _blank(base: type[nn.Module]) -> nn.Module:
    cls: Any = _subclass(base)
    return cls.__new__(cls)


def _set_state(self: Any, state: dict[str, Any]) -> None:
    self._softpool_base.__setstate__(self, state)
    _take_class(self)
