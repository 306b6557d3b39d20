"""Loading of the compiled kernels."""

from __future__ import annotations

import functools
import importlib
import warnings

import torch


def _load() -> frozenset[str]:
    """Register the kernels that are built; return the device types that have one."""
    try:
        importlib.import_module("softpool_det._C")
    except ImportError as error:
        warnings.warn(
            f"softpool_det runs in plain PyTorch, several times slower and with several times the "
            f"memory, because its compiled operator cannot be loaded ({error}). To have it, "
            f"reinstall softpool_det where there is a C++ compiler.",
            RuntimeWarning,
            stacklevel=2,
        )
        return frozenset()
    try:
        importlib.import_module("softpool_det._C_cuda")
    except ModuleNotFoundError:
        return frozenset({"cpu"})
    except ImportError as error:
        warnings.warn(
            f"softpool_det's CUDA kernel cannot be loaded: {error}", RuntimeWarning, stacklevel=2
        )
        return frozenset({"cpu"})
    return frozenset({"cpu", "cuda"})


@functools.cache
def _warn_of_missing_kernel(device_type: str) -> None:
    warnings.warn(
        f"softpool_det has no compiled kernel for {device_type!r} tensors and pools them in plain "
        f"PyTorch, several times slower and with several times the memory. For CUDA, reinstall "
        f"softpool_det where there are a GPU and nvcc, or with FORCE_CUDA=1 and nvcc.",
        RuntimeWarning,
        stacklevel=2,
    )


@torch.compiler.assume_constant_result  # torch.compile calls it instead of tracing it
def _runs_on_gpu(index: int) -> bool:
    return _has_code_for_gpu(index)


@functools.cache
def _has_code_for_gpu(index: int) -> bool:
    """Whether the CUDA kernel was compiled for that GPU; warns where it was not."""
    if importlib.import_module("softpool_det._C_cuda").runs_on(index):
        return True
    warnings.warn(
        f"softpool_det's CUDA kernel was not compiled for GPU {index}, whose tensors are pooled in "
        f"plain PyTorch, several times slower and with several times the memory. Reinstall "
        f"softpool_det with that GPU in the machine, or with its compute capability in "
        f"TORCH_CUDA_ARCH_LIST (7.5, say; see docs/building.md).",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def has_kernel(device: torch.device) -> bool:
    """Whether the compiled operator takes tensors on `device`; warns once where it should."""
    if device.type in COMPILED_DEVICES:
        return device.type != "cuda" or device.index is None or _runs_on_gpu(device.index)
    # torch.compile cannot trace a warning.
    if COMPILED_DEVICES and device.type != "meta" and not torch.compiler.is_compiling():
        _warn_of_missing_kernel(device.type)
    return False


def kernels():
    """Return the namespace of the compiled operators."""
    return torch.ops.softpool_det


COMPILED_DEVICES = _load()
