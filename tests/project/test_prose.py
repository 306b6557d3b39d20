"""What `make lint` says of English, in a repository with one page."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = " ".join(["word"] * 31)


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("a.md", "This is no\nsentence. A `is no` in code, and no longer.", ["a.md:1: refused"]),
        ("a.md", "It is no longer so.\n\n```\nis no\n```\n", []),
        ("a.md", f"One.\n\n{LONG}.", ["a.md:3: more than 30 words"]),
        ("a.md", f"{LONG[:-5]} ({LONG}).", []),
        ("a.py", 'raise ValueError(\n    "it is "\n    f"no config"\n)', ["a.py:2: refused"]),
        ("a.py", f'def f():\n    """{LONG}."""', ["a.py:1: more than 30 words"]),
        ("a.py", "x = 1  # told", ["a.py:1: refused"]),
    ],
)
def test_faults(tmp_path, name, text, faults):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/style.md").write_text((ROOT / "docs/style.md").read_text())
    (tmp_path / name).write_text(text)
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    program = [sys.executable, ROOT / "tools/prose.py"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(faults)
    assert all(line.startswith(fault) for line, fault in zip(lines, faults, strict=True))
    assert done.returncode == bool(faults), done.stdout + done.stderr
