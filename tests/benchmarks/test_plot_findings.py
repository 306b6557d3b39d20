"""The figures of docs/findings.md can be drawn of what a study leaves."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "plot_findings.py"


def excerpt(names):
    figures = {
        name: {"AP": {"value": 60.0 + n, "low": 59.0 + n, "high": 62.0 + n, "by_seed": [59, 61]}}
        for n, name in enumerate(names)
    }
    softness = {name: {"largest_weight": (n + 1) / 20} for n, name in enumerate(names)}
    return {"names": names, "tasks": {"bbox": {"metrics": figures}}, "softness": softness}


def draw(path, output, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plot_findings.py", str(path), "--output", str(output)])
    runpy.run_path(str(PROGRAM), run_name="__main__")


def test_draws_every_arm_of_the_study(tmp_path, monkeypatch):
    study = yaml.safe_load((ROOT / "configs" / "studies" / "plain_scenes.yaml").read_text())
    path = tmp_path / "plain_scenes.json"
    path.write_text(json.dumps(excerpt(list(study["arms"]))))
    draw(path, tmp_path / "assets", monkeypatch)
    pictures = sorted((tmp_path / "assets").iterdir())
    assert [p.stem for p in pictures] == ["plain_scenes_sharpness", "plain_scenes_temperature"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    before = [p.read_bytes() for p in pictures]
    draw(path, tmp_path / "assets", monkeypatch)
    assert [p.read_bytes() for p in pictures] == before


def test_an_arm_without_a_place_is_named(tmp_path, monkeypatch):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(excerpt(["max 3x3", "LIP"])))
    with pytest.raises(SystemExit, match="LIP"):
        draw(path, tmp_path, monkeypatch)
