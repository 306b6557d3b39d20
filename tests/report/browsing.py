"""What the tests in a browser share."""

from dataclasses import dataclass, field

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 900}


@dataclass
class Opened:
    page: object
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
