"""A stranger's data set, from its check to ONNX: tree crowns under other names and ids."""

import json
import shutil

import pytest

from softpool_det.datasets import tree_crowns
from softpool_det.datasets.cache import ensure_made

IMAGES = 12


@pytest.fixture
def crowns(root, tmp_path):
    """JSON and images: names with spaces and letters, ids with gaps, one faulty box."""
    dataset = next(d for d in tree_crowns.DATASETS if d.name == "tree_crowns_val")
    ensure_made(dataset, root)
    data = json.loads(dataset.json_file(root).read_text())
    photos = tmp_path / "my trees" / "Fotos 2026"
    photos.mkdir(parents=True)
    data["images"] = data["images"][:IMAGES]
    ids = {image["id"]: 13 * image["id"] + 5 for image in data["images"]}
    for number, image in enumerate(data["images"]):
        name = f"IMG ({7 * number}) größe.png"
        shutil.copy(dataset.image_root(root) / image["file_name"], photos / name)
        image |= {"id": ids[image["id"]], "file_name": name}
    data["categories"] = [{"id": 42, "name": "Baum"}]
    kept = (entry for entry in data["annotations"] if entry["image_id"] in ids)
    data["annotations"] = [
        {**entry, "image_id": ids[entry["image_id"]], "category_id": 42} for entry in kept
    ]
    data["annotations"][7]["bbox"][2] *= -1
    file = photos.parent / "bäume.json"
    file.write_text(json.dumps(data))
    return file, photos


@pytest.mark.slow
def test_from_the_check_to_onnx(crowns, program_here, tmp_path, capsys, monkeypatch):
    # Of the processes that train.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    file, photos = crowns
    given = ["--train-json", file, "--train-images", photos, "--output", tmp_path / "output"]
    automatic = ["--auto", *given, "--resamples", 20, "--", "SOLVER.MAX_ITER", 2]
    automatic += ["SOLVER.IMS_PER_BATCH", 2, "INPUT.MIN_SIZE_TEST", 64, "MODEL.DEVICE", "cpu"]

    with pytest.raises(SystemExit) as end:
        program_here("tools/check_data.py", *given)
    assert end.value.code == 1
    assert "fault: " in (printed := capsys.readouterr().out)
    assert "entry 7 of annotations" in printed
    with pytest.raises(SystemExit, match=r"error: .*bäume\.json: entry 7 of annotations"):
        program_here("tools/compare.py", *automatic)

    data = json.loads(file.read_text())
    data["annotations"][7]["bbox"][2] *= -1
    file.write_text(json.dumps(data))
    capsys.readouterr()
    program_here("tools/compare.py", *automatic)
    printed = capsys.readouterr().out
    assert "of 12 images one in 5 is kept for that, at random (seed 0): 9 to train on" in printed
    assert "Schedule: 2 iterations of 2 images" in printed
    assert f"Report: {tmp_path / 'output' / 'report.html'}" in printed
    assert "No difference is shown" in printed
    comparison = json.loads((tmp_path / "output" / "comparison.json").read_text())
    assert comparison["names"] == ["stock", "SoftPool"]
    assert comparison["images"] == 3
    runs = list((tmp_path / "output").glob("*/seed_1/result.json"))
    times = [run.stat().st_mtime_ns for run in runs]
    # Finished runs are taken as they are.
    program_here("tools/compare.py", *automatic)
    assert [run.stat().st_mtime_ns for run in runs] == times

    run, exported = tmp_path / "output" / "SoftPool" / "seed_1", tmp_path / "exported"
    program_here("tools/export.py", "--config-file", run, "--output", exported, "--check")
    assert "onnx" in (printed := capsys.readouterr().out)
    assert "3 images" in printed
    manifest = json.loads((exported / "model.json").read_text())
    assert manifest["classes"] == [{"id": 42, "name": "Baum"}]
    photo = next(photos.iterdir())
    drawn = ["--input", photo, "--output", tmp_path / "drawn.png", "--score-threshold", 0]
    program_here("tools/visualize.py", "--config-file", exported, *drawn)
    assert (tmp_path / "drawn.png").is_file()
