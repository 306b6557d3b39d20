"""Options that several programs share."""

from __future__ import annotations

import argparse

TRUST_LAZY_CONFIG = "--trust-lazy-config"


def add_trust_lazy_config(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option without which no LazyConfig is read, as `trust_lazy_config`."""
    parser.add_argument(
        TRUST_LAZY_CONFIG,
        action="store_true",
        help="run the code in configs that are .py files (LazyConfigs)",
    )
