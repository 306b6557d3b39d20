"""tools/audit.py: advisories in OSV's format about packages of the real lock file."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "audit.py"
LOCK = ROOT / "requirements" / "lock.txt"
PYTHON = ROOT / ".venv-audit" / "bin" / "python"
AUDIT = runpy.run_path(str(TOOL))
needs_environment = pytest.mark.skipif(not PYTHON.exists(), reason="make audit makes .venv-audit")


def advisory(name="pillow", events=None, versions=(), ecosystem="PyPI", **more):
    affected = {"package": {"name": name, "ecosystem": ecosystem}, "versions": list(versions)}
    if events:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": events}]
    return {"id": "TEST-1", "summary": "Text.", "affected": [affected], **more}


def write_dump(path, *advisories):
    with zipfile.ZipFile(path, "w") as archive:
        for number, one in enumerate(advisories):
            archive.writestr(f"TEST-{number}.json", json.dumps(one))
    return path


def run(*arguments):
    command = [str(PYTHON), str(TOOL), str(LOCK), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def locked(name):
    return re.search(rf"^{name}==(\S+)", LOCK.read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([{"introduced": "0"}], True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], False),
        ([{"introduced": "0"}, {"fixed": "2.0.1"}], True),
        ([{"introduced": "2.1"}], False),
        ([{"introduced": "1.0"}, {"last_affected": "2.0"}], True),
        ([{"introduced": "1.0"}, {"last_affected": "1.10"}], False),
        # In any order, and more than one of each.
        ([{"fixed": "1.5"}, {"introduced": "0"}, {"introduced": "1.9"}], True),
        ([{"fixed": "1.5"}, {"introduced": "0"}, {"introduced": "1.9"}, {"fixed": "1.95"}], False),
    ],
)
def test_ranges(events, expected):
    assert AUDIT["is_affected"](advisory(events=events), "pillow", "2.0") is expected


def test_listed_versions_names_and_ecosystems():
    is_affected = AUDIT["is_affected"]
    assert is_affected(advisory("PILLOW", versions=["not one", "2.0.0"]), "pillow", "2.0")
    assert not is_affected(advisory(versions=["1.9"]), "pillow", "2.0")
    assert not is_affected(advisory("pillow-simd", versions=["2.0"]), "pillow", "2.0")
    assert not is_affected(advisory(versions=["2.0"], ecosystem="npm"), "pillow", "2.0")


@needs_environment
def test_findings_are_printed_and_fail(tmp_path):
    version = locked("pillow")
    events = [{"introduced": "0"}, {"fixed": version + ".1"}]
    withdrawn = advisory("numpy", [{"introduced": "0"}], withdrawn="2026-01-01T00:00:00Z")
    other = advisory("torch", versions=["0.1"])
    dump = write_dump(tmp_path / "all.zip", advisory(events=events), withdrawn, other)
    result = run("--database", dump)
    assert result.returncode == 1, result.stderr
    assert re.search(rf"^pillow +{re.escape(version)} +TEST-1 +{version}\.1", result.stdout, re.M)
    assert "lock.txt: Found 1 known vulnerability in 1 package" in result.stdout
    assert "numpy" not in result.stdout


@needs_environment
def test_nothing_found(tmp_path):
    dump = write_dump(tmp_path / "all.zip", advisory(versions=["0.1"]))
    result = run("--database", dump)
    assert result.returncode == 0, result.stderr
    assert "lock.txt: No known vulnerabilities found" in result.stdout


@needs_environment
@pytest.mark.parametrize("content", [None, b"no zip"])
def test_an_unusable_database_is_named(tmp_path, content):
    path = tmp_path / "all.zip"
    if content:
        path.write_bytes(content)
    result = run("--database", path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert str(path) in result.stderr
    assert "a copy of https://" in result.stderr


@needs_environment
def test_a_service_out_of_reach_is_no_clean_result():
    # No server listens on port 9 (discard).
    result = run("--service-url", "http://127.0.0.1:9/v1/query")
    assert result.returncode == 3
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: nothing was audited: ")
