"""Install detectron2 into the running interpreter's environment where it is missing.

Standard library only: it runs before the project is importable.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path


def install_from_source(source: str) -> None:
    """Install an official checkout or archive against the torch that is already here."""
    # Both packages have the same files: one must not be installed over the other.
    pip("uninstall", "--yes", "sal-detectron2")
    pip("install", "--no-deps", "--no-build-isolation", source)


def install_pinned(requirements: Path) -> None:
    """Install the hashed redistribution without the top-level `tools` that it drops."""
    site_packages = Path(sysconfig.get_path("purelib"))
    with tempfile.TemporaryDirectory(dir=site_packages) as staging:
        # The wheel's tag says CPython 3.10; ours is another one, hence --target.
        pip(
            *("install", "--no-deps", "--require-hashes", "--only-binary=:all:"),
            *("--python-version", "3.10", "--target", staging, "-r", str(requirements)),
        )
        shutil.rmtree(Path(staging) / "tools")
        for item in Path(staging).iterdir():
            destination = site_packages / item.name
            if destination.is_dir():
                shutil.rmtree(destination)
            item.rename(destination)


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pinned", type=Path, required=True, help="requirements file with a hash")
    parser.add_argument("--source", default="", help="path or URL of detectron2's own sources")
    args = parser.parse_args()
    if args.source:
        install_from_source(args.source)
    elif importlib.util.find_spec("detectron2") is None:
        install_pinned(args.pinned)


if __name__ == "__main__":
    main()
