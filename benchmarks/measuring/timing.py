"""Times of several functions, taken in turn."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Function = Callable[[], object]
# On the GPU in front of what is timed, so that the host's launches are queued when it starts.
_LEAD_CYCLES = 1_000_000


@dataclass(frozen=True)
class Times:
    """Milliseconds a call: median, first and third quartile of `rounds` calls."""

    median_ms: float
    q1_ms: float
    q3_ms: float
    rounds: int


def wall_ms(function: Function) -> float:
    """One call by the wall's clock: allocating, freeing and a GPU's work included."""
    _synchronize()
    start = time.perf_counter()
    function()
    _synchronize()
    return 1e3 * (time.perf_counter() - start)


def device_ms(function: Function) -> float:
    """One call by the GPU's clock, without the host's launches."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(_LEAD_CYCLES)
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def interleaved(
    functions: Mapping[Key, Function],
    *,
    seconds: float,
    min_rounds: int,
    clock: Callable[[Function], float] = wall_ms,
) -> dict[Key, Times]:
    """Call each function once a round, in random order, so that a drift of the machine hits all.

    A round that is not counted comes first.

    Args:
        functions: what to time.
        seconds: start no other round when so many have passed ...
        min_rounds: ... but do at least so many.
        clock: milliseconds of one call.
    """
    samples: dict[Key, list[float]] = {key: [] for key in functions}
    order = list(functions)
    shuffle = random.Random(0).shuffle
    for key in order:
        clock(functions[key])
    with _collecting_between_rounds():
        start = time.perf_counter()
        rounds = 0
        while rounds < min_rounds or time.perf_counter() - start < seconds:
            shuffle(order)
            for key in order:
                samples[key].append(clock(functions[key]))
            rounds += 1
            gc.collect()
    return {key: summary(values) for key, values in samples.items()}


@contextmanager
def _collecting_between_rounds() -> Iterator[None]:
    """No garbage collection in a timed call; what is there by then is not looked at again."""
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def summary(values: list[float]) -> Times:
    """Median and quartiles (of one value: that value)."""
    if len(values) == 1:
        return Times(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Times(median, q1, q3, len(values))


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
