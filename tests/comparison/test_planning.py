"""Seeds that a comparison needs, from an earlier one."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from softpool_det.comparison.planning import plan_notes

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "benchmarks" / "results" / "demo_digits_retinanet.json"


def test_says_how_many_seeds(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py", "--plan", "--known-spread", str(DEMO)])
    runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    for line, arm in zip(lines, ["2x2 beta 1 paper", "3x3 beta 4 exact"], strict=True):
        assert re.fullmatch(
            f"Boxes. Seeds per arm to show a difference with 80 % power, SoftPool {arm} against "
            r"max 3x3: (more than 1,000|\d+) for 0.5 AP, \d+ for 1 AP.",
            line,
        )


def test_needs_a_comparison(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py", "--plan"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")
    assert "--plan needs --known-spread FILE" in capsys.readouterr().err


def test_one_seed_and_other_files_are_refused(tmp_path):
    data = json.loads(DEMO.read_text())
    for task in data["tasks"].values():
        for difference in task["differences"]:
            ap = difference["metrics"]["AP"]
            ap |= {"by_seed": ap["by_seed"][:1], "seed_standard_error": None}
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps({**data, "seeds": [1]}))
    with pytest.raises(ValueError, match=r"has 1 seed\(s\); the comparison.json of a comparison"):
        plan_notes(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="nothing to plan by"):
        plan_notes(path)
