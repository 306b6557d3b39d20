"""What the programs share: options, and the line with which one of them fails."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

TRUST_LAZY_CONFIG = "--trust-lazy-config"
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


def error_text(error: BaseException) -> str:
    """Return what an error says to a user.

    str() puts the text of a KeyError in quotes, says "[Errno 2]" before that of an OSError, and
    gives nothing for an error without a text.
    """
    text = str(error)
    if isinstance(error, KeyError):
        # Without a sentence, the argument is the key that some code did not find.
        is_sentence = error.args and " " in str(error.args[0])
        text = str(error.args[0]) if is_sentence else f"KeyError: {text}" if text else ""
    elif isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(n) for n in (error.filename, error.filename2) if n]
        text = ": ".join(filter(None, [" -> ".join(names), error.strerror]))
    return text.strip() or type(error).__name__


def describe(error: BaseException) -> str:
    """Return the line that a program ends with."""
    return f"error: {error_text(error)}"


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
