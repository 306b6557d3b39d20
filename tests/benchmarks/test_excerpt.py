import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FINDINGS = sorted((BENCHMARKS / "results" / "findings").glob("*.json"))


def whole(tasks):
    figure = {"AP": {"value": 41.5, "low": 40.0, "high": 43.0}}
    difference = {"baseline": "a", "candidate": "b", "metrics": figure, "verdict": "b is ..."}
    task = {
        "metrics": {"a": figure, "b": figure},
        "differences": [{**difference, "per_class": {"cat": {}}, "objects": []}],
        "per_class": {"a": {}, "b": {}},
        "curves": {"a": [0.0] * 1000},
    }
    provenance = {"command": "python compare.py", "versions": {"torch": "2"}, "hardware": {}}
    return {
        **{"names": ["a", "b"], "seeds": [1, 2], "images": 3, "objects": 4, "resamples": 5},
        **{"confidence": 0.95, "tasks": dict.fromkeys(tasks, task), "runs": {"a": {}}},
        "provenance": {**provenance, "date": "2026", "git_commit": "abc", "files": [{}]},
    }


@pytest.mark.parametrize("tasks", [("bbox",), ("bbox", "segm")])
def test_keeps_figures_and_where_they_are_from(tmp_path, monkeypatch, tasks):
    source, target = tmp_path / "comparison.json", tmp_path / "kept" / "excerpt.json"
    data = whole(tasks)
    source.write_text(json.dumps(data))
    monkeypatch.setattr(sys, "argv", ["excerpt.py", str(source), str(target)])
    runpy.run_path(str(BENCHMARKS / "excerpt.py"), run_name="__main__")
    kept = json.loads(target.read_text())
    assert set(kept["tasks"]) == set(tasks)
    for task in tasks:
        assert kept["tasks"][task]["metrics"] == data["tasks"][task]["metrics"]
        [difference] = kept["tasks"][task]["differences"]
        assert set(difference) == {"baseline", "candidate", "metrics", "verdict"}
        assert "curves" not in kept["tasks"][task]
    assert kept["seeds"] == [1, 2]
    assert kept["provenance"]["git_commit"] == "abc"
    assert "files" not in kept["provenance"]


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_what_is_committed_has_an_interval_for_every_arm(path):
    kept = json.loads(path.read_text())
    baseline, *others = kept["names"]
    for results in kept["tasks"].values():
        assert [d["candidate"] for d in results["differences"]] == others
        for difference in results["differences"]:
            assert difference["baseline"] == baseline
            figure = difference["metrics"]["AP"]
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert len(figure["by_seed"]) == len(kept["seeds"])
