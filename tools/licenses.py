#!/usr/bin/env python3
"""Write docs/licenses.md: licences of all locked packages, as pip-licenses reads them.

`make licenses` makes the environments and runs this in .venv-audit, where pip-licenses is.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Heading, lock files, and the environment in which they are installed. What an earlier part has
# with the same version is not listed again.
PARTS = (
    ("The project", ("lock.txt", "detectron2.txt", "uv.txt"), ".venv"),
    ("`make test-hosts`: what it has besides", ("hosts.txt",), ".venv-hosts"),
    ("`make audit` and `make licenses`: what they have besides", ("audit.txt",), ".venv-audit"),
)
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|CeCILL|EUPL", re.IGNORECASE)
PROPRIETARY = re.compile(r"proprietary|nvidia", re.IGNORECASE)
UNKNOWN = "UNKNOWN"
UNSTATED = "not stated"


@dataclass(frozen=True)
class Package:
    """A row: canonical name, exact version, and the licence in its metadata's words."""

    name: str
    version: str
    license: str


def locked(path: Path) -> dict[str, str]:
    """Versions by canonical names, of a requirements file with exact versions."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def installed(environment: Path) -> dict[str, Package]:
    """What pip-licenses says of the packages of an environment, by canonical names.

    Raises:
        FileNotFoundError: no such environment.
    """
    python = environment / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{environment.name} is missing: `make licenses` makes it")
    command = [str(Path(sys.executable).with_name("pip-licenses")), f"--python={python}"]
    command += ["--format=json", "--with-system", "--with-license-file", "--no-license-path"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages: dict[str, Package] = {}
    for row in rows:
        name = canonicalize_name(row["Name"])
        packages[name] = Package(name, row["Version"], _license(row))
    return packages


def _license(row: dict) -> str:
    """Of metadata, else the title of the licence file."""
    if row["License"] != UNKNOWN:
        return " ".join(row["License"].split()).replace("|", "/")
    lines = [line.strip() for line in row["LicenseText"].splitlines() if line.strip()]
    if not lines or lines[0] == UNKNOWN:
        return UNSTATED
    title = ", ".join(lines[:2])
    return f"{title} (its licence file; the metadata state none)"


def sections(root: Path) -> list[tuple[str, list[Package]]]:
    """Headings and their packages, sorted by name.

    Raises:
        ValueError: an environment has another version than its lock file, or lacks the package.
    """
    listed: dict[str, str] = {}
    result = []
    for heading, files, environment in PARTS:
        present = installed(root / environment)
        wanted: dict[str, str] = {}
        for file in files:
            wanted |= locked(root / "requirements" / file)
        for name, version in wanted.items():
            found = present[name].version if name in present else "none"
            if found != version:
                raise ValueError(f"{environment}: {name} is {found}, locked is {version}")
        new = [name for name, version in wanted.items() if listed.get(name) != version]
        result.append((heading, [present[name] for name in sorted(new)]))
        listed |= wanted
    return result


def page(parts: list[tuple[str, list[Package]]]) -> str:
    """The whole Markdown page."""
    remarks = ""
    packages = [package for _, part in parts for package in part]
    for words, pattern in (
        ("Copyleft of some kind is in", COPYLEFT),
        ("Proprietary, by NVIDIA, are", PROPRIETARY),
    ):
        names = sorted({p.name for p in packages if pattern.search(p.license)})
        remarks += f"- {words} {len(names)}: {', '.join(names) or 'none'}.\n"
    unstated = sorted({p.name for p in packages if p.license == UNSTATED})
    remarks += f"- Metadata and files of {len(unstated)} state nothing: {', '.join(unstated)}.\n"
    text = HEAD.format(total=len(packages), remarks=remarks)
    for heading, part in parts:
        text += f"\n## {heading}\n\n| package | version | licence |\n|---|---|---|\n"
        text += "".join(f"| {p.name} | {p.version} | {p.license} |\n" for p in part)
    return text


HEAD = """# Licences of all dependencies

`make licenses` wrote this page with pip-licenses, out of the metadata of the {total} packages that
the files in `requirements/` lock. The words are the packages' own. The project itself is under
Apache-2.0.

{remarks}
None of the packages is copied into the project or its wheel: pip installs them from where their
makers publish them. The terms of NVIDIA's, which come with torch's builds for CUDA, hold for
whoever installs them or hands them on, in a container's image for instance. Copyleft binds who
changes such a package or hands it on; AGPL-3.0 (ultralytics, in `make test-hosts` alone, which the
project neither contains nor needs) binds also who serves a program made with it. Some wheels carry
libraries with licences of their own, which are not in the tables: FFmpeg under LGPL-2.1 in
opencv-python-headless, GCC's run-time libraries in numpy and scipy. The licence files of those
wheels list them.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    try:
        args.output.write_text(page(sections(ROOT)))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
