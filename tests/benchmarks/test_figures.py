"""`make figures`: docs/assets/ holds what it draws, of the data that are committed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import draw_figures
import numpy as np
import pytest
from figures import findings, measured, pages, window
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "docs" / "assets"
# Neither photographs nor browsers.
QUICK = [name for name in draw_figures.FIGURES if name not in ("similarity", "report")]


def test_the_committed_pictures_are_those_it_draws():
    names = {f"{name}.png" for name in draw_figures.FIGURES}
    assert {path.name for path in ASSETS.iterdir()} == names
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < 1_500_000
    text = "".join(page.read_text() for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    assert [name for name in names if f"assets/{name}" not in text] == []


@pytest.mark.parametrize("name", QUICK)
def test_committed_pictures_are_up_to_date(name, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["draw_figures.py", "--output", str(tmp_path), "--only", name])
    draw_figures.main()
    (path,) = tmp_path.iterdir()
    drawn, kept = (Image.open(folder / path.name).convert("L") for folder in (tmp_path, ASSETS))
    assert drawn.size == kept.size, "make figures"
    # Letters differ by a little between versions of freetype, a bar or a dot by more.
    drawn, kept = (each.resize((60, 30), Image.Resampling.BOX) for each in (drawn, kept))
    assert np.abs(np.asarray(drawn, float) - np.asarray(kept, float)).max() < 25, "make figures"


def test_weights_are_the_softmax_of_the_formula():
    values = np.array(window.WINDOW)
    for beta in (0.0, 1.0, 4.0):
        expected = np.exp(beta * values) / np.exp(beta * values).sum()
        found = window.weights(beta)
        np.testing.assert_allclose(found.gradient, expected, rtol=1e-12)
        assert found.output == pytest.approx((expected * values).sum())
        # d (w x) / d x with weights that depend on x.
        exact = expected * (1 + beta * (values - found.output))
        np.testing.assert_allclose(window.pooled(beta, "exact").gradient, exact, atol=1e-12)
    assert window.weights(math.inf).output == values.max()


def test_every_run_of_the_line_is_a_dot():
    def run(arm, seed):
        return {"arm": arm, "seed": seed, "metrics": {"AP": 60.0 + seed}}

    arms = ["max 3x3", "average 2x2", "max 2x2", "SoftPool 2x2 beta 4 paper"]
    others = ["SoftPool 2x2 beta 4 exact", "SoftPool 3x3 beta 4 paper", "SoftPool 2x2 learned beta"]
    lines = findings.temperatures([run(arm, seed) for arm in arms + others for seed in (1, 2)])
    assert lines["stock"] == [(32.0, 61.0), (32.0, 62.0)]
    assert lines["2x2"] == [(x, ap) for x in (0.5, 16.0, 4.0) for ap in (61.0, 62.0)]


def test_the_title_says_how_many_runs_there_are(tmp_path, monkeypatch):
    records = [json.loads(line) for line in findings.RECORDS.read_text().splitlines()]
    study = findings.yaml.safe_load(findings.STUDY.read_text())
    whole = [records[0] | {"arm": arm} for arm in study["arms"] for _ in study["seeds"]]
    path = tmp_path / "records.jsonl"
    monkeypatch.setattr(findings, "RECORDS", path)
    for runs, title in ((records[:3], "Preliminary: 3 of the study's 112"), (whole, "Each dot")):
        path.write_text("\n".join(json.dumps(record) for record in runs))
        assert findings.draw_temperatures().axes[0].get_title().count(title) == 1


def test_lines_hold_every_arm_but_the_learned_one():
    excerpt = json.loads(findings.EXCERPT.read_text())
    lines = findings.doses(excerpt)
    assert sum(len(arms) for arms in lines.values()) == len(excerpt["names"]) - 1
    for arms in lines.values():
        assert [at for at, _ in arms] == sorted({at for at, _ in arms})
    means = excerpt["tasks"]["bbox"]["metrics"]
    assert lines["3x3, exact"][-1] == (4.0, means["SoftPool 3x3 beta 4 exact"]["AP"])


def test_sparsity_is_shown_beside_the_difference_to_stock():
    excerpt = json.loads(findings.EXCERPT.read_text())
    found = findings.sparsity(excerpt)
    assert list(found) == excerpt["names"][1:]
    softness, ap = found["average 2x2"]
    assert softness["largest_weight"] == pytest.approx(0.25)
    means = excerpt["tasks"]["bbox"]["metrics"]
    stock = means[findings.STOCK]["AP"]["value"]
    assert ap["value"] == pytest.approx(means["average 2x2"]["AP"]["value"] - stock)


def test_charts_hold_the_figures_of_the_pages_tables():
    costs = (ROOT / "docs" / "poolings.md").read_text()
    for row in measured.costs()["contiguous"]:
        values = [row[key]["to_baseline"] for key in measured.BOTH]
        forward, both = (f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values)
        assert f"| `{row['peer']}` | {forward}, {both} |" in costs
    speeds = (ROOT / "docs" / "performance.md").read_text()
    for case, (soft, _) in measured.speeds("avx512").items():
        window_size, layout = case.split("\n")
        name = f"| float32 {layout} {'k2s2' if window_size == '2x2' else 'k3s2p1'} |"
        (line,) = [line for line in speeds.splitlines() if line.startswith(name) and ", " in line]
        assert line.split("|")[4].split(",")[0].strip() == f"{soft:.1f}"


def test_rooms_are_those_of_the_package():
    rooms = [room for line in pages.layers() for room in line]
    folders = {path.parent.name for path in (ROOT / "softpool_det").glob("*/__init__.py")}
    assert sorted(rooms) == sorted(folders)


@pytest.mark.skipif(not any(map(shutil.which, pages.BROWSERS)), reason="no Chromium")
def test_a_report_becomes_a_picture(tmp_path):
    page = tmp_path / "report.html"
    assert pages.draw_report(page) is None
    page.write_text("<body style='background: rgb(0, 114, 178)'>")
    path = tmp_path / "report.png"
    path.write_bytes(pages.draw_report(page))
    picture = Image.open(path).convert("RGB")
    assert picture.size == (760, 640)
    assert picture.getpixel((500, 500)) == (0, 114, 178)
