"""The fuzzer's inputs as lines of text: binary files are not for the tree."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path


def unpack(lines: Path, folder: Path) -> None:
    for line in lines.read_text().splitlines():
        content = bytes.fromhex(line)
        (folder / hashlib.sha256(content).hexdigest()[:40]).write_bytes(content)


def pack(folder: Path, lines: Path) -> None:
    """Sorted, so that differences of two versions can be read."""
    contents = sorted(path.read_bytes().hex() for path in folder.iterdir())
    unfinished = lines.with_suffix(".partial")
    unfinished.write_text("".join(f"{line}\n" for line in contents))
    unfinished.replace(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["unpack", "pack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    (unpack if args.action == "unpack" else pack)(args.source, args.target)


if __name__ == "__main__":
    main()
