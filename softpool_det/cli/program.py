"""What the programs share: options, and the line with which one of them fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from softpool_det.io.errors import TRUST_LAZY_CONFIG, describe

# Errors that come from files, options or the machine: their text is one line, and a traceback says
# no more.
FAILURES = (OSError, KeyError, ValueError, RuntimeError, FloatingPointError, MemoryError)


def add_trust_lazy_config(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option without which no LazyConfig is read, as `trust_lazy_config`."""
    parser.add_argument(
        TRUST_LAZY_CONFIG,
        action="store_true",
        help="run the code in configs that are .py files (LazyConfigs)",
    )


def run_program(
    main: Callable[..., object],
    *args: Any,
    expected: tuple[type[BaseException], ...] = FAILURES,
    describe: Callable[[BaseException], str] = describe,
) -> None:
    """Call `main` with `args`.

    Raises:
        SystemExit: one of the `expected` errors came; with the line about it, so that the status
            is 1.
    """
    try:
        main(*args)
    except expected as error:
        sys.exit(describe(error))
