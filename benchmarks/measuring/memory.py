"""Bytes that a call allocates, counted at PyTorch's allocators.

The peak of a process's resident memory says little here: it never falls, and pages that a freed
block leaves behind count as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object], device: str) -> int:
    """Most bytes of tensors that were alive at a time during one call, beyond those before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        function()
    # Every allocation is one event, every release one with a negative size.
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def saved_bytes(forward: Callable[[], object], input: torch.Tensor) -> int:
    """Bytes of the tensors that `forward` keeps for its backward, `input` itself not counted."""
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # Kept until the end, so that no two have the same address.
        storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    storages.pop(input.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in storages.values())
