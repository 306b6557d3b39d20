#!/usr/bin/env python3
"""Look for known vulnerabilities of locked packages with pip-audit, which asks OSV's service.

`make audit` runs this in .venv-audit. Exit status: 0 nothing known, 1 vulnerabilities, 2 wrong
arguments, 3 a file was not audited, mostly because the service cannot be reached.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

FOUND, NOT_AUDITED = 1, 3


def audit(path: str) -> int:
    """Run pip-audit on a file with a hash for each package; gives the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv"]
    command += ["--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        command += ["--output", str(table), "--requirement", path]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        last = (result.stderr.splitlines() or ["no reason given"])[-1]
        # Findings and failures end pip-audit with the same status, but only findings leave a table.
        if result.returncode and not table.exists():
            hint = "docs/building.md names a scanner that needs no network"
            print(f"error: {path} was not audited: {last:.300} ({hint})", file=sys.stderr)
            return NOT_AUDITED
        print(f"{path}: {last}")
        if result.returncode:
            print(table.read_text())
            return FOUND
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("requirements", nargs="+", help="files that `make lock` writes")
    status = 0
    # One by one: pip-audit refuses two versions of a package.
    for path in parser.parse_args().requirements:
        status = max(status, audit(path))
        if status == NOT_AUDITED:
            break
    return status


if __name__ == "__main__":
    sys.exit(main())
