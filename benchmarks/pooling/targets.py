"""The project's targets and what was measured of them.

A row here is one of `measure.measure`'s with its case and setting: "group", "shape", "dtype",
"layout", "window" and "setting".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pooling.cases import (
    CPU_TARGET_KINDS,
    DTYPES,
    WINDOW_2,
    WINDOW_3,
    WINDOWS,
    Window,
    kinds,
    target_kinds,
    window_cases,
)
from pooling.names import (
    AUTHORS,
    AVG,
    BETA,
    BOTH,
    DIRECTIONS,
    FLOOR,
    FORWARD,
    FUSED,
    LEARNED,
    MAX,
    SOFT,
    STOCK_STEM,
)

# The setting that a target counts in, by device; the CPU's other one is shown beside it.
COUNTING_SETTING = {"cpu": "kept", "cuda": "caching"}
_MAIN = "detection stem"
_SIGNS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}
_SPOKEN = {FORWARD: "forward", BOTH: "fwd+bwd"}
# How many times faster than max pooling, contiguous float32 on the CPU.
_CPU_SPEEDUPS = {
    (WINDOW_2, FORWARD): 15.0,
    (WINDOW_2, BOTH): 6.0,
    (WINDOW_3, FORWARD): 12.0,
    (WINDOW_3, BOTH): 5.0,
}

Row = dict
Value = Callable[[list[Row]], float | None]


@dataclass(frozen=True)
class Target:
    """`value` of one setting's rows (None where they lack it) against `bound`."""

    text: str
    sign: str
    bound: float
    value: Value
    moonshot: bool = False

    def met_by(self, measured: float) -> bool:
        return _SIGNS[self.sign](measured, self.bound)


def outcomes(rows: list[Row], device: str, isa: str | None = None) -> list[dict]:
    """Every target of a device and an instruction set beside its measurement.

    Returns:
        For each its "text", "sign", "bound" and "moonshot"; "measured" and "met" in the setting
        that counts and "measured_default" with glibc's default, None where not measured.
    """
    counting = [row for row in rows if row["setting"] == COUNTING_SETTING[device]]
    default = [row for row in rows if row["setting"] == "default"]
    result = []
    for target in targets(device, isa):
        measured = target.value(counting)
        result.append(
            {
                "text": target.text,
                "sign": target.sign,
                "bound": target.bound,
                "moonshot": target.moonshot,
                "measured": measured,
                "measured_default": target.value(default),
                "met": None if measured is None else target.met_by(measured),
            }
        )
    return result


def targets(device: str, isa: str | None = None) -> Iterator[Target]:
    """The targets of one device, "cpu" or "cuda"; of the CPU's best instruction set, or of one."""
    if device == "cuda":
        yield from _cuda_targets()
    else:
        yield from _avx2_targets() if isa == "avx2" else _cpu_targets()
    yield from _window_targets()
    yield from _temperature_targets(device)
    yield from _memory_targets(target_kinds(device))
    yield from _stem_targets(device)


def _cpu_targets() -> Iterator[Target]:
    kind = ("float32", "contiguous")
    for (window, direction), bound in _CPU_SPEEDUPS.items():
        words = _words(*kind, window, direction)
        value = _worst(min, MAX, SOFT, _time(direction), _MAIN, [kind], window)
        yield Target(f"{words}: times faster than max", ">=", bound, value)
    yield from _channels_last_targets(MAX)
    yield from _channels_last_targets(AVG, moonshot=True)


def _channels_last_targets(other: str, moonshot: bool = False) -> Iterator[Target]:
    last = [kind for kind in CPU_TARGET_KINDS if kind[1] == "channels_last"]
    for kind, window, direction in _cells(last):
        words = _words(*kind, window, direction)
        value = _worst(max, SOFT, other, _time(direction), _MAIN, [kind], window)
        yield Target(f"{words}: time of {other}'s", "<=", 1.0, value, moonshot)


def _avx2_targets() -> Iterator[Target]:
    kind = ("float32", "contiguous")
    for _, window, direction in _cells([kind]):
        words = _words(*kind, window, direction)
        value = _worst(max, SOFT, FLOOR, _time(direction), _MAIN, [kind], window)
        bound = 1.5 if direction == FORWARD else 2.0
        yield Target(f"{words}: time of the copy's", "<=", bound, value)
    yield from _channels_last_targets(MAX)


def _window_targets() -> Iterator[Target]:
    for case in window_cases():
        for direction in DIRECTIONS:
            kind = (case.dtype, case.layout)
            words = _words(*kind, case.window, direction, "3-D " if case.dims == 3 else "")
            value = _worst(max, SOFT, MAX, _time(direction), case.group, [kind], case.window)
            bound = 1.0 if direction == FORWARD else 1.5
            yield Target(f"{words}: time of max's", "<=", bound, value)


def _temperature_targets(device: str) -> Iterator[Target]:
    """Over every kind and window: a number costs nothing that can be measured."""
    which = target_kinds(device)
    for direction in DIRECTIONS:
        value = _worst(max, BETA, SOFT, _time(direction), _MAIN, which)
        text = f"beta 4, {_SPOKEN[direction]}: time of beta 1's (largest)"
        yield Target(text, "<=", 1.02, value)
    for window in WINDOWS:
        for kind in which:
            value = _worst(max, LEARNED, SOFT, _time(BOTH), _MAIN, [kind], window)
            words = _words(*kind, window, BOTH)
            yield Target(f"learned beta, {words}: of a number's", "<=", 1.15, value)


def _cuda_targets() -> Iterator[Target]:
    for kind, window, direction in _cells(kinds(*DTYPES)):
        words = _words(*kind, window, direction)
        value = _worst(max, SOFT, MAX, _time(direction), _MAIN, [kind], window)
        yield Target(f"{words}: time of max's", "<=", 1.0, value)
        value = _worst(min, FLOOR, SOFT, _time(direction), _MAIN, [kind], window)
        yield Target(f"{words}: of a copy's bandwidth", ">=", 0.8, value)
    text = "float32 contiguous fwd+bwd: times faster than the authors' algorithm"
    contiguous = [("float32", "contiguous")]
    value = _worst(min, AUTHORS, SOFT, _time(BOTH), "formulations", contiguous)
    yield Target(text, ">=", 5.0, value)


def _memory_targets(which: list[tuple[str, str]]) -> Iterator[Target]:
    peak = _worst(max, SOFT, MAX, lambda row: row["peak_bytes"], _MAIN, which)
    yield Target("peak memory of fwd+bwd, of max's (largest)", "<", 1.0, peak)
    yield Target("bytes saved beyond the input (most)", "<=", 0.0, _most_saved(_MAIN, which))


def _stem_targets(device: str) -> Iterator[Target]:
    bound = 2.0 if device == "cuda" else 3.0
    which = kinds(*DTYPES) if device == "cuda" else kinds("float32")
    for kind, window, direction in _cells(which):
        words = _words(*kind, window, direction)
        value = _worst(min, STOCK_STEM, FUSED, _time(direction), "fused stem", [kind], window)
        yield Target(f"fused stem, {words}: times faster", ">=", bound, value)


def _cells(
    which: Iterable[tuple[str, str]],
) -> Iterator[tuple[tuple[str, str], Window, str]]:
    for kind in which:
        for window in WINDOWS:
            for direction in DIRECTIONS:
                yield kind, window, direction


def _words(dtype: str, layout: str, window: Window, direction: str, dims: str = "") -> str:
    return f"{dtype} {layout} {dims}{window.short} {_SPOKEN[direction]}"


def _time(direction: str) -> Callable[[Row], float]:
    return lambda row: row[direction]["median_ms"]


def _worst(
    which: Callable[[Iterable[float]], float],
    numerator: str,
    denominator: str,
    figure: Callable[[Row], float | None],
    group: str,
    kinds: list[tuple[str, str]],
    window: Window | None = None,
) -> Value:
    """The least or largest quotient of two peers' figures over the cases that fit."""

    def value(rows: list[Row]) -> float | None:
        quotients = []
        for peers in _by_case(rows, group, kinds, window):
            if numerator in peers and denominator in peers:
                above, below = figure(peers[numerator]), figure(peers[denominator])
                if above is not None and below:
                    quotients.append(above / below)
        return which(quotients) if quotients else None

    return value


def _most_saved(group: str, kinds: list[tuple[str, str]]) -> Value:
    def value(rows: list[Row]) -> float | None:
        cases = _by_case(rows, group, kinds)
        saved = [peers[SOFT]["saved_bytes"] for peers in cases if SOFT in peers]
        counted = [number for number in saved if number is not None]
        return float(max(counted)) if counted else None

    return value


def _by_case(
    rows: list[Row], group: str, kinds: list[tuple[str, str]], window: Window | None = None
) -> list[dict[str, Row]]:
    """The rows of each case that fits, by peer."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        kind = (row["dtype"], row["layout"])
        fits = window is None or Window(**row["window"]) == window
        if row["group"] == group and kind in kinds and fits:
            key = (tuple(row["shape"]), kind, tuple(row["window"].values()))
            cases.setdefault(key, {})[row["peer"]] = row
    return list(cases.values())
