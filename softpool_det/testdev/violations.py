"""What is wrong with a result file: every violation counted, the first ones kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One thing that is not as it should be.

    Args:
        entry: index in the file's array, from 0; None for the file as a whole.
        image_id: as the entry has it; None where it has none.
        field: "bbox", "score", ...; "file" and "name" for the file as a whole.
        value: what was found, shortened.
        expected: what would be right.
    """

    entry: int | None
    image_id: object
    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        if self.entry is None:
            place = self.field
        else:
            place = f"entry {self.entry} (image {self.image_id}): {self.field}"
        return f"{place} is {self.value}, must be {self.expected}"


class Tally:
    """Counts violations by field, and keeps the first of them.

    Args:
        keep: how many are kept.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.kept: list[Violation] = []
        self.by_field: Counter[str] = Counter()

    def add(
        self, field: str, value: str, expected: str, entry: int | None = None, image: object = None
    ) -> None:
        """Count a violation, and keep it while there is room."""
        self.by_field[field] += 1
        if len(self.kept) < self.keep:
            self.kept.append(Violation(entry, image, field, value, expected))

    @property
    def total(self) -> int:
        """The number of violations, kept or not."""
        return self.by_field.total()
