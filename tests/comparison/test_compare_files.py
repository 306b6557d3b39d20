"""tools/compare.py on result files, as another framework's user runs it."""

import gzip
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softpool_det.cli.compare import parse_results
from softpool_det.comparison.output import write_figures
from softpool_det.io.atomic import write_json

ROOT = Path(__file__).parents[2]
CLASSES = ("cat", "<b>dog</b>")


def compare(folder, *arguments):
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--resamples", "60"]
    command += ["--output", str(folder / "output"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def run_here(monkeypatch, folder, *arguments):
    """In this process: another would take seconds for its imports each time."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["compare.py", "--gt", "truth.json", *arguments])
    runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")


def write_scene(folder, images=40):
    """Ground truth, and results that find each object with a chance and an error of their own."""
    random = np.random.default_rng(1)
    truth = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(CLASSES)]
    results = {"good": [], "bad": []}
    for image in range(1, images + 1):
        truth["images"].append(
            {"id": image, "width": 200, "height": 150, "file_name": f"{image}.png"}
        )
        for _ in range(3):
            x, y, w, h = (int(v) for v in random.integers([0, 0, 20, 20], [100, 80, 90, 60]))
            entry = {"image_id": image, "category_id": int(random.choice([1, 4]))}
            number = len(truth["annotations"]) + 1
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "id": number}
            truth["annotations"].append({**entry, **box})
            for name, chance, shift in (("good", 0.9, 1), ("bad", 0.6, 6)):
                if random.random() < chance:
                    dx, dy = random.normal(0, shift, 2)
                    found = {"bbox": [x + dx, y + dy, w, h], "score": float(random.random())}
                    results[name].append({**entry, **found})
    (folder / "truth.json").write_text(json.dumps(truth))
    for name, entries in results.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))


@pytest.fixture
def scene(tmp_path):
    write_scene(tmp_path)
    return tmp_path


def test_files_are_compared_in_their_order(scene):
    done = compare(scene, "--gt", "truth.json", "bad.json", "good.json")
    assert done.returncode == 0, done.stderr
    assert "good's run is better than bad's" in done.stdout.splitlines()[-1]
    data = json.loads((scene / "output" / "comparison.json").read_text())
    assert data["names"] == ["bad", "good"]
    what = [entry["what"] for entry in data["provenance"]["files"]]
    assert what == ["ground truth", "results of bad, seed 1", "results of good, seed 1"]
    page = (scene / "output" / "report.html").read_text()
    assert "<b>dog</b>" not in page
    assert Image.open(scene / "output" / "comparison.png").size == (1200, 630)


def test_seeds_are_joined_by_commas_and_named(scene, monkeypatch):
    run_here(
        monkeypatch,
        scene,
        *("R50/first one=bad.json,good.json", "--resamples", "60", "second=good.json,bad.json"),
    )
    data = json.loads((scene / "output" / "comparison" / "comparison.json").read_text())
    assert data["seeds"] == [1, 2]
    assert len(data["tasks"]["bbox"]["metrics"]["R50/first one"]["AP"]["by_seed"]) == 2


def test_what_is_known_of_seeds_decides_what_one_seed_tells(scene, monkeypatch, capsys):
    """good is ahead by far, but not of detectors whose runs differ by 90 AP."""
    verdicts = []
    for spread in (0, 90):
        metrics = {"any": {"AP": {"by_seed": [0, spread]}}}
        known = {"seeds": [1, 2], "tasks": {"bbox": {"metrics": metrics}}}
        (scene / "known.json").write_text(json.dumps(known))
        run_here(monkeypatch, scene, "bad.json", "good.json", "--known-spread", "known.json")
        data = json.loads((scene / "output" / "comparison" / "comparison.json").read_text())
        assert data["known_spread"] == {"bbox": spread}
        verdicts.append(capsys.readouterr().out.splitlines()[-1])
    assert "it is not a finding" not in verdicts[0]
    assert "it is not a finding" in verdicts[1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["good.json"], "needs two arms or more"),
        (["a=good.json", "a=bad.json"], "two inputs are called 'a'"),
        (["good.json", "missing.json"], "missing.json"),
        (["a=good.json,bad.json", "b=good.json"], "each arm needs one for each seed"),
        (["good.json", "truth.json"], "truth.json"),
        (
            ["a=good.json,./good.json", "b=bad.json,good.json"],
            "a: good.json and good.json hold the same results",
        ),
        (["a=good.json,again.json.gz", "b=bad.json,good.json"], "hold the same results"),
        (["good.json", "bad.json", "--images", "nowhere"], "images: nowhere is not a folder"),
    ],
)
def test_wrong_inputs_are_named(scene, inputs, message, monkeypatch):
    # The same detections in another order.
    again = json.loads((scene / "good.json").read_text())[::-1]
    (scene / "again.json.gz").write_bytes(gzip.compress(json.dumps(again).encode()))
    with pytest.raises(SystemExit, match=re.escape(message)) as ended:
        run_here(monkeypatch, scene, *inputs)
    assert str(ended.value).startswith("error: ")
    assert not (scene / "output").exists()


def test_a_detector_that_finds_nothing_has_ap_0(scene, monkeypatch):
    (scene / "nothing.json").write_text("[]")
    run_here(monkeypatch, scene, "--resamples", "20", "good.json", "nothing.json")
    data = json.loads((scene / "output" / "comparison" / "comparison.json").read_text())
    results = data["tasks"]["bbox"]
    assert results["metrics"]["nothing"]["AP"]["value"] == 0
    assert set(results["errors"]["nothing"].values()) == {None}


def test_masks_that_one_file_alone_has_are_said_to_be_left_out(scene, monkeypatch, capsys):
    found = json.loads((scene / "good.json").read_text())
    for entry in found:
        entry["segmentation"] = {"size": [150, 200], "counts": [150 * 200]}
    (scene / "masks.json").write_text(json.dumps(found))
    run_here(monkeypatch, scene, "--resamples", "20", "masks.json", "bad.json")
    assert "Masks are not compared: bad.json has none." in capsys.readouterr().out
    output = scene / "output" / "comparison"
    assert "Masks are not compared: bad.json has none." in (output / "report.html").read_text()
    assert "Masks are not compared: bad.json has none." in (output / "comparison.md").read_text()


def test_names_that_are_no_text_break_nothing(scene, monkeypatch):
    """A file name with a byte that is not UTF-8, and half a letter as the name of a class."""
    truth = json.loads((scene / "truth.json").read_text())
    truth["categories"][0]["name"] = "cat \ud800"
    (scene / "truth.json").write_text(json.dumps(truth))
    (scene / "good.json").rename(scene / "good\udcff.json")
    done = compare(scene, "--gt", "truth.json", "bad.json", "good\udcff.json")
    assert done.returncode == 0, done.stderr
    assert "udcff" in done.stdout.splitlines()[-1]
    output = scene / "output"
    assert json.loads((output / "comparison.json").read_text())["names"][1] == "good\udcff"
    for name in ("comparison.md", "report.html"):
        assert "udcff" in (output / name).read_text(encoding="utf-8")


def test_the_terminal_shows_names_as_they_are(scene, monkeypatch, capsys):
    name = "a<b & *c*_d_"
    run_here(monkeypatch, scene, "--resamples", "20", "bad.json", f"{name}=good.json")
    shown = capsys.readouterr().out
    assert f"| {name} " in shown
    assert shown.splitlines()[-1].startswith(f"{name}'s run is ")
    assert "P(better)" in shown
    for written in ("&lt;", "&amp;", "\\", "**"):
        assert written not in shown
    table = (scene / "output" / "comparison" / "comparison.md").read_text()
    assert r"| a&lt;b &amp; \*c\*\_d\_ " in table


@pytest.mark.parametrize(
    "options",
    [("--seeds", "1", "2"), ("--names", "a", "b"), ("--candidate-weights", "x.pth")],
)
def test_options_of_configs_are_refused_beside_result_files(scene, options, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_here(monkeypatch, scene, "good.json", "bad.json", *options)
    assert f"{options[0]} goes with configs, not with --gt" in capsys.readouterr().err


def test_figures_outlive_pictures_that_cannot_be_made(scene, monkeypatch):
    output = scene / "output" / "comparison"
    output.mkdir(parents=True)
    stale = [output / name for name in ("report.html", "comparison.png")]
    for path in stale:
        path.write_text("of other figures")
    (scene / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"error: image '\d+\.png' of the ground truth is not in"):
        run_here(monkeypatch, scene, "good.json", "bad.json", "--images", "empty")
    assert json.loads((output / "comparison.json").read_text())["names"] == ["good", "bad"]
    assert "| good" in (output / "comparison.md").read_text()
    assert not any(path.exists() for path in stale)
    truth = json.loads((scene / "truth.json").read_text())
    for image in truth["images"]:
        del image["file_name"]
    (scene / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(SystemExit, match=r"error: image \d+ of .* has no .file_name."):
        run_here(monkeypatch, scene, "good.json", "bad.json", "--images", "empty")


def test_a_kill_leaves_no_report_of_other_figures(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("report.html", "comparison.png", "comparison.md")]
    for path in files:
        path.write_text("of other figures")

    def killed(path, data):
        write_json(path, data)
        raise KeyboardInterrupt

    monkeypatch.setattr("softpool_det.comparison.output.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_figures(tmp_path, {})
    assert (tmp_path / "comparison.json").exists()
    assert not any(path.exists() for path in files)


def test_files_may_have_an_equals_sign_in_their_folder(scene, monkeypatch):
    (scene / "rate=0.1").mkdir()
    for name in ("good", "bad"):
        (scene / f"{name}.json").rename(scene / "rate=0.1" / f"{name}.json")
    both = "rate=0.1/bad.json,rate=0.1/good.json"
    again = "other=rate=0.1/good.json,rate=0.1/bad.json"
    run_here(monkeypatch, scene, "--resamples", "20", both, again)
    data = json.loads((scene / "output" / "comparison" / "comparison.json").read_text())
    assert data["names"] == ["bad", "other"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/found.json", "b/found.json"], ["a", "b"]),
        (["a/x/found.json", "b/x/found.json", "other.json"], ["a", "b", "other"]),
        (["a/found.json.gz", "./found.json"], ["a", "found"]),
        (["found.json", "found.json"], ["found (1)", "found (2)"]),
        (["one.json", "a/two.json.gz"], ["one", "two"]),
    ],
)
def test_files_of_one_name_are_named_by_folder_or_number(files, names):
    assert list(parse_results(files)) == names


def test_gzipped_files_with_text_ids_and_without_areas(scene, monkeypatch, capsys):
    """As several exporters write them; pictures are drawn, too."""
    for name in ("truth", "good", "bad"):
        data = json.loads((scene / f"{name}.json").read_text())
        for entry in data["annotations"] if name == "truth" else data:
            entry["image_id"] = f"{entry['image_id']}.png"
            entry.pop("area", None)
        for image in data["images"] if name == "truth" else ():
            image["id"] = image["file_name"]
            Image.new("RGB", (image["width"], image["height"])).save(scene / image["id"])
        (scene / f"{name}.json").unlink()
        path = scene / ("truth.json" if name == "truth" else f"{name}.json.gz")
        path.write_bytes(gzip.compress(json.dumps(data).encode()))
    run_here(
        monkeypatch, scene, "--resamples", "20", "bad.json.gz", "good.json.gz", "--images", "."
    )
    assert "120 of 120 annotations have no area" in capsys.readouterr().out
    data = json.loads((scene / "output" / "comparison" / "comparison.json").read_text())
    assert data["names"] == ["bad", "good"]
    gains = data["tasks"]["bbox"]["image_gains"]
    assert {row["image_id"] for row in gains} == {f"{n}.png" for n in range(1, 41)}
    page = (scene / "output" / "comparison" / "report.html").read_text()
    assert f"Image {gains[0]['image_id']} (" in page


def test_files_that_may_mean_something_else_are_remarked_upon(scene, monkeypatch, capsys):
    found = json.loads((scene / "good.json").read_text())
    (scene / "half.json").write_text(json.dumps([e for e in found if e["image_id"] <= 20]))
    for entry in found:
        x, y, w, h = entry["bbox"]
        entry |= {"bbox": [x, y, x + w, y + h], "score": round(entry["score"], 1)}
    (scene / "corners.json").write_text(json.dumps(found))
    run_here(monkeypatch, scene, "--resamples", "20", "half.json", "corners.json")
    shown = capsys.readouterr()
    output = scene / "output" / "comparison"
    page = (output / "report.html").read_text()
    for remark in (
        "half.json has no detections in 20 of the 40 images",
        "boxes extend beyond their image. They look like [x1, y1, x2, y2]",
        "of its boxes have the same score as another one of their class. AP depends on",
    ):
        assert remark in shown.out
        assert remark in page
    assert len(json.loads((output / "comparison.json").read_text())["remarks"]) == 3


def test_without_files_or_configs_it_says_what_it_takes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")
    assert "give --gt and result files" in capsys.readouterr().err


CONFIG = str(ROOT / "configs" / "demo" / "digits_retinanet_R_18_FPN.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidate", "missing.yaml"], "missing.yaml, of the arm 'SoftPool', is not a file"),
        (["--candidate-weights", "no.pth"], "no.pth, of the arm 'SoftPool', is not a file"),
        (["--baseline-weights", CONFIG, "--seeds", "1", "2"], "'stock' is one checkpoint"),
        (["--seeds", "1", "2", "1"], "seeds=[1, 2, 1]: each seed is one run"),
        (["--names", "R50/1x", "b"], "an arm's name is its folder's, too; 'R50/1x'"),
        (["--known-spread", CONFIG], "no known spread in it"),
    ],
)
def test_wrong_configs_are_named_before_anything_runs(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["compare.py", "--baseline", CONFIG, "--candidate", CONFIG, *options]
    )
    with pytest.raises(SystemExit, match=re.escape(message)):
        runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")
    assert list(tmp_path.iterdir()) == []


def test_a_test_set_without_objects_ends_it_before_anything_runs(tmp_path, monkeypatch):
    truth = {"images": [{"id": 3, "file_name": "a.png"}], "categories": [{"id": 7, "name": "a"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(truth))
    data = ["--val-json", tmp_path / "boxes.json", "--val-images", tmp_path]
    words = ["compare.py", "--baseline", CONFIG, "--candidate", CONFIG, *map(str, data)]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(tmp_path / "output")])
    with pytest.raises(SystemExit, match=r"boxes\.json has no object to test on: annotate some"):
        runpy.run_path(str(ROOT / "tools" / "compare.py"), run_name="__main__")
    assert not (tmp_path / "output").exists()
