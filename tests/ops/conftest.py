from __future__ import annotations

import emulation
import pytest
import torch
from cases import DIMS, GRADIENTS

from softpool_det.ops import _library


def pytest_collection_modifyitems(items):
    """Leave out tests of the emulated device that run no kernel: those of the CPU are the same."""
    items[:] = [item for item in items if not is_repeated(item)]


def is_repeated(item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    # Of the fixtures and parameters that choose between kernels and plain PyTorch.
    choices = [parameters.get(name) for name in ("pool", "either")]
    names = [getattr(choice, "__name__", choice) for choice in choices]
    return parameters.get("device") == "emulated" and bool(
        {"reference", "pool_by_reference"} & set(names)
    )


@pytest.fixture(scope="session", params=emulation.DEVICES)
def device(request) -> str:
    """For tensors: "emulated" are the CUDA kernels run on the host, on tensors of the CPU."""
    return "cpu" if request.param == "emulated" else request.param


@pytest.fixture(autouse=True)
def emulated_kernels(request, monkeypatch):
    call = getattr(request.node, "callspec", None)
    if call is not None and call.params.get("device") == "emulated":
        emulation.load()
        monkeypatch.setattr(_library, "kernels", lambda: torch.ops.softpool_emulation)


@pytest.fixture(params=[False, True], ids=["contiguous", "channels_last"])
def channels_last(request) -> bool:
    return request.param


@pytest.fixture(params=DIMS, ids=["1d", "2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(params=GRADIENTS)
def gradient(request) -> str:
    return request.param


@pytest.fixture
def fresh_compiler():
    """Without the graphs of other tests, which count towards the limit on recompilations."""
    torch.compiler.reset()
