"""Values on a command line."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """An `argparse` type: a number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
