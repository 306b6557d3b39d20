"""Times and memory of one case's peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from measuring.memory import peak_bytes, saved_bytes
from measuring.timing import Function, Times, device_ms, interleaved, wall_ms

from pooling.cases import Case
from pooling.names import BOTH, DIRECTIONS, FLOOR
from pooling.peers import Peer, directions, peers_of, usable


def measure(case: Case, device: str, seconds: float, min_rounds: int, memory: bool) -> list[dict]:
    """Measure a case.

    Args:
        case: the input and the windows.
        device: "cpu" or "cuda".
        seconds, min_rounds: as in :func:`measuring.timing.interleaved`.
        memory: count the bytes of forward and backward, too.

    Returns:
        One row for each peer and one for the copy: "peer"; "forward" and "forward_backward", each
        with the fields of `Times` and the ratios "to_baseline" (None without one) and "to_floor";
        "peak_bytes" and "saved_bytes", None where not counted. Peers that fail are left out.

    Raises:
        RuntimeError: peers that should give the same output do not.
    """
    input = case.new_input(device)
    peers = usable(peers_of(case, device), input)
    functions = functions_of(case, device, peers, input)
    clock = device_ms if device == "cuda" else wall_ms
    times = interleaved(functions, seconds=seconds, min_rounds=min_rounds, clock=clock)
    rows = rows_of(case, times)
    for row in rows:
        name = row["peer"]
        if memory and name in peers:
            row["peak_bytes"] = peak_bytes(functions[name, BOTH], device)
            row["saved_bytes"] = _saved_bytes(peers[name], input)
    return rows


def functions_of(
    case: Case, device: str, peers: dict[str, Peer], input: torch.Tensor
) -> dict[tuple[str, str], Function]:
    """What is timed: each peer and the copy, in each direction."""
    functions = {(FLOOR, d): f for d, f in zip(DIRECTIONS, _copies(case, device), strict=True)}
    for name, peer in peers.items():
        functions |= {(name, d): f for d, f in directions(peer, input).items()}
    return functions


def rows_of(case: Case, times: dict[tuple[str, str], Times]) -> list[dict]:
    """Rows without bytes, the copy's last."""
    names = [name for name in dict.fromkeys(name for name, _ in times) if name != FLOOR]
    rows = []
    for name in [*names, FLOOR]:
        row: dict = {"peer": name, "peak_bytes": None, "saved_bytes": None}
        for direction in DIRECTIONS:
            taken, base = times[name, direction], times.get((case.baseline, direction))
            row[direction] = {
                **asdict(taken),
                "to_baseline": taken.median_ms / base.median_ms if base else None,
                "to_floor": taken.median_ms / times[FLOOR, direction].median_ms,
            }
        rows.append(row)
    return rows


def _saved_bytes(peer: Peer, input: torch.Tensor) -> int | None:
    if peer.backward is not None:
        return None
    leaf = input.detach().requires_grad_()
    return saved_bytes(lambda: peer.pool(leaf), leaf)


def _copies(case: Case, device: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Copies that read and write as many bytes as any such pooling has to.

    A forward reads the input and writes the output; a backward reads the input and grad_output and
    writes grad_input. A copy of n elements moves 2 n of them.
    """
    forward = case.elements + case.out_elements
    both = forward + 2 * case.elements + case.out_elements
    source = torch.ones(both // 2, dtype=getattr(torch, case.dtype), device=device)
    target = torch.ones_like(source)
    short_source, short_target = source[: forward // 2], target[: forward // 2]
    return lambda: short_target.copy_(short_source), lambda: target.copy_(source)
