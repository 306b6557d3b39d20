"""What one process of the benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass

from pooling import cases


@dataclass(frozen=True)
class Plan:
    """What one process measures.

    Args:
        parts: of "main", "fused", "windows", "others", "zoo", "sweep" and "given", in this order.
        device: "cpu" or "cuda".
        setting: of the allocator: "default" or "kept", on a GPU "caching".
        isa: the instruction set that is asked for, None for the best.
        threads: of PyTorch, None for its own choice.
        shape: for the part "given".
        quick: fewer rounds and smaller sizes.
        memory: count bytes, too.
        only: leave out cases whose text lacks one of these words.
    """

    parts: tuple[str, ...]
    device: str
    setting: str
    isa: str | None
    threads: int | None
    shape: tuple[int, ...] | None
    quick: bool
    memory: bool
    only: str = ""

    @classmethod
    def from_json(cls, content: dict) -> Plan:
        """What `dataclasses.asdict` gave, by way of JSON, which has no tuples."""
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        return cls(**{**content, **lists})

    def cases(self) -> list[cases.Case]:
        """What is measured, in its order; says which sizes of the sweep are left out."""
        found: list[cases.Case] = []
        for part in self.parts:
            if part == "main":
                found += cases.main_cases(self.device)
            elif part == "fused":
                found += cases.fused_cases(self.device)
            elif part == "windows":
                found += cases.window_cases()
            elif part == "others":
                found += cases.other_cases(self.device)
            elif part == "zoo":
                found += cases.zoo_cases()
            elif part == "sweep":
                found += self._sweep()
            else:
                assert self.shape is not None
                found += cases.given_cases(self.shape, self.device, self.quick)
        return [case for case in found if case.matches(self.only)]

    def _sweep(self) -> list[cases.Case]:
        from measuring.machine import available_bytes

        exponents = cases.QUICK_SWEEP if self.quick else cases.SWEEP
        found, left_out = cases.sweep_cases(exponents, available_bytes(self.device))
        if left_out:
            sizes = ", ".join(f"2^{exponent}" for exponent in left_out)
            print(f"The sweep leaves out {sizes}: too little free memory.\n")
        return found
