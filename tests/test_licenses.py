"""docs/licenses.md lists what the lock files lock, and nothing else."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "licenses.py"))
PAGE = (ROOT / "docs" / "licenses.md").read_text()


def listed(heading):
    """Names and versions of a section."""
    text = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", text, re.MULTILINE)
    assert all(license.strip() for *_, license in rows)
    return [(name, version) for name, version, _ in rows if name != "package"]


def test_page_is_of_the_locked_packages():
    earlier: set[tuple[str, str]] = set()
    for heading, files, _ in TOOL["PARTS"]:
        locked = set()
        for file in files:
            locked |= set(TOOL["locked"](ROOT / "requirements" / file).items())
        message = "docs/licenses.md is not of these lock files: make licenses"
        assert listed(heading) == sorted(locked - earlier), message
        earlier |= locked


def test_lock_files_are_read_whole():
    text = (ROOT / "requirements" / "lock.txt").read_text()
    assert len(TOOL["locked"](ROOT / "requirements" / "lock.txt")) == text.count("==") > 100


def test_an_environment_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.venv is missing: `make licenses` makes it"):
        TOOL["sections"](tmp_path)


def test_remarks_name_copyleft_and_proprietary_packages():
    package = TOOL["Package"]
    found = [
        package("a", "1", "MIT"),
        package("b", "1", "GNU Affero General Public License v3 or later (AGPLv3+)"),
        package("c", "1", "LicenseRef-NVIDIA-Proprietary"),
        package("d", "1", "not stated"),
    ]
    page = TOOL["page"]([("All", found)])
    assert "Copyleft of some kind is in 1: b." in page
    assert "Proprietary, by NVIDIA, are 1: c." in page
    assert "1 state nothing: d." in page
    assert "| a | 1 | MIT |" in page
