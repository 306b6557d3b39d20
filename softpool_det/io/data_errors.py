"""Data that cannot be used: an error of one line, or a list of what was skipped."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


class DataError(ValueError):
    """Data that cannot be used; the text is one line that names file and entry."""


@dataclass
class Skipped:
    """What was left out, by file: said once, counted, and listed at the end of a run.

    Args:
        reasons: by file or entry.
    """

    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Note a file or entry; log it the first time."""
        if name not in self.reasons:
            logger.warning("skipped: %s: %s", name, reason)
            self.reasons[name] = reason
