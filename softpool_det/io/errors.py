"""What an error says to a user, in one line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

# The option that errors about LazyConfigs name, and that the programs have.
TRUST_LAZY_CONFIG = "--trust-lazy-config"


def error_text(error: BaseException) -> str:
    """Return what an error says to a user.

    str() puts the text of a KeyError in quotes, and says "[Errno 2]" before that of an OSError. It
    gives a whole traceback for an error in a DataLoader's worker, nothing for one without a text.
    """
    text = str(error)
    if text.startswith("Caught ") and " in DataLoader worker " in text.partition("\n")[0]:
        text = text.rpartition(f"\n{type(error).__name__}: ")[2]
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


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about a name that is not known: those that are most like it, if any."""
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, cutoff=0.5)
    return f"; the nearest are {', '.join(names[each] for each in near)}" if near else ""
