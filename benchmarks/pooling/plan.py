"""What one process of the benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What one process measures.

    Args:
        parts: of "main", "fused", "others", "sweep" and "given", in this order.
        device: "cpu" or "cuda".
        setting: of the allocator: "default" or "kept", on a GPU "caching".
        isa: the instruction set that is asked for, None for the best.
        threads: of PyTorch, None for its own choice.
        shape: for the part "given".
        quick: fewer rounds and smaller sizes.
        memory: count bytes, too.
    """

    parts: tuple[str, ...]
    device: str
    setting: str
    isa: str | None
    threads: int | None
    shape: tuple[int, ...] | None
    quick: bool
    memory: bool

    @classmethod
    def from_json(cls, content: dict) -> Plan:
        """What `dataclasses.asdict` gave, by way of JSON, which has no tuples."""
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        return cls(**{**content, **lists})
