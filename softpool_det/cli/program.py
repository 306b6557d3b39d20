"""What the programs share: options, and the line with which one of them fails."""

from __future__ import annotations

import argparse
import io
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from softpool_det.io.errors import TRUST_LAZY_CONFIG, describe

# Errors that come from files, options or the machine: their text is one line, and a traceback says
# no more.
FAILURES = (OSError, KeyError, ValueError, RuntimeError, FloatingPointError, MemoryError)
# Of Detectron2's anchors, and of torch reading what it has written itself: nobody here can act.
FOREIGN_WARNINGS = ("torch.meshgrid: in an upcoming release", "The given buffer is not writable")


# Title and text of the group of options.
OWN_DATA = ("your own data", "instead of the config's data sets")
DATA_OPTIONS = {
    "train_json": "COCO's JSON; may be given again",
    "train_images": "the images of --train-json, once for each",
    "val_json": "the same for evaluations",
    "val_images": "the images of --val-json",
    "test_json": "a third set, for the final evaluation; --val-json is for those before it",
    "test_images": "the images of --test-json",
}


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The module's lines as they are, and the defaults of the options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        default = action.default
        has_none = default is None or default is False or default in ([], "", argparse.SUPPRESS)
        if not action.option_strings or has_none or "default:" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})".lstrip()


def new_parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a module's docstring, with what follows "Examples:" at the end.

    Args:
        text: the docstring; None under `python -OO`.
    """
    description, _, examples = (text or "").partition("Examples:\n")
    return argparse.ArgumentParser(
        description=description.rstrip(),
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=HelpFormatter,
    )


def add_trust_lazy_config(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option without which no LazyConfig is read, as `trust_lazy_config`."""
    parser.add_argument(
        TRUST_LAZY_CONFIG,
        action="store_true",
        help="run the code in configs that are .py files (LazyConfigs)",
    )


def add_data_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options that name a user's own data, `DATA_OPTIONS`."""
    for name, what in DATA_OPTIONS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            action="append",
            default=[],
            metavar="FILE" if name.endswith("json") else "FOLDER",
            help=what,
        )


def add_predictor_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a trained detector: `config_file`, `weights`, `opts`, and its data."""
    detector = parser.add_argument_group("detector")
    detector.add_argument(
        "--config-file",
        required=True,
        metavar="FILE",
        help="YAML or LazyConfig; or the folder of a run",
    )
    detector.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint (default: the last one in the config's output folder)",
    )
    add_trust_lazy_config(detector)
    add_data_options(parser.add_argument_group(*OWN_DATA))
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="overrides at the end: KEY VALUE pairs, or key=value for a LazyConfig",
    )


def add_limit(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option for a quick run, as `limit_images`."""
    parser.add_argument(
        "--limit-images",
        type=int,
        default=0,
        metavar="N",
        help="use N images of each data set (default: all)",
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> argparse._ArgumentGroup:
    """Add the folder that a program writes to, as `output`, and return its group."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", type=Path, default=Path(default), metavar="FOLDER", help="for the results"
    )
    return group


def data_overrides(args: argparse.Namespace, config_file: str) -> list[str]:
    """`DATA_OPTIONS` and `limit_images` as overrides of a config."""
    found = []
    if limit := getattr(args, "limit_images", 0):
        key = "datasets.limit_images=" if config_file.endswith(".py") else "DATASETS.LIMIT_IMAGES"
        found = [f"{key}{limit}"] if key.endswith("=") else [key, str(limit)]
    # Detectron2's keys say test for what is called validation where there are two sets.
    validation = "validation_" if args.test_json else "test_"
    for name in DATA_OPTIONS:
        paths = getattr(args, name)
        key = name.replace("val_", validation)
        if paths and config_file.endswith(".py"):
            found.append(f"datasets.{key}=[{','.join(map(_quoted, paths))}]")
        elif paths:
            found += [f"DATASETS.{key.upper()}", repr(tuple(paths))]
    return found


def _quoted(path: str) -> str:
    """Quote a path so that LazyConfig's overrides take it literally."""
    # A backslash counts before a quote alone, the closing one included.
    path = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), path)
    return "'" + path.replace("${", "\\${") + "'"


def run_program(
    main: Callable[..., object],
    *args: Any,
    expected: tuple[type[BaseException], ...] = FAILURES,
    describe: Callable[[BaseException], str] = describe,
) -> None:
    """Call `main` with `args`.

    Raises:
        SystemExit: one of the `expected` errors came; with the line about it, so that the status
            is 1. Or Ctrl-C came, and `main` did not handle it; with status 130, as a shell has it.
    """
    for message in FOREIGN_WARNINGS:
        warnings.filterwarnings("ignore", message, UserWarning)
    # A console may lack letters of names and of our signs: it shows their codes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main(*args)
    except expected as error:
        sys.exit(describe(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
