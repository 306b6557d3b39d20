"""docs/licenses.md lists what the lock files lock, and its remarks name what needs a remark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
REMARKS, *TABLES = (ROOT / "docs" / "licenses.md").read_text().split("\n## ")
# In the order of `make licenses`.
LOCKS = (("lock", "detectron2", "uv"), ("lint",), ("docs",), ("hosts",), ("audit",))
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|CeCILL|EUPL", re.IGNORECASE)
PROPRIETARY = re.compile(r"proprietary|nvidia", re.IGNORECASE)


def rows(table):
    """Names, versions and licences."""
    found = re.findall(r"^\| (\S+) +\| (\S+) +\| (.*\S) +\|$", table, re.MULTILINE)
    return [(canonicalize_name(name), version, words) for name, version, words in found[1:]]


@pytest.mark.parametrize(
    ("table", "files"), list(zip(TABLES, LOCKS, strict=True)), ids=[files[0] for files in LOCKS]
)
def test_tables_are_of_the_locked_packages(table, files):
    text = "\n".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in files)
    locked = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    assert len(locked) == text.count("==")
    expected = {(canonicalize_name(name), version) for name, version in locked}
    assert {row[:2] for row in rows(table)} == expected, "make licenses"


@pytest.mark.parametrize(
    ("remark", "pattern"),
    [("Copyleft", COPYLEFT), ("Proprietary", PROPRIETARY), ("UNKNOWN", re.compile("UNKNOWN"))],
)
def test_remarks_name_all_that_need_one(remark, pattern):
    text = REMARKS.split(f"- {remark}")[1].split("\n- ")[0].split("\n\n")[0]
    found = {name for table in TABLES for name, _, words in rows(table) if pattern.search(words)}
    assert found
    for name in found:
        wanted = r"nvidia-\*" if name.startswith("nvidia-") else name
        assert wanted in text, f"docs/licenses.md has no remark about {name}"
