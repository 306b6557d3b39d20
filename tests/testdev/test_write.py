import json
import zipfile

import pytest

from softpool_det.testdev import result_stem, write_submission

CONTENT = json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5}] * 1000)


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "coco_instances_results.json"
    path.write_text(CONTENT)
    return path


def test_json_and_zip_of_one_stem(results, tmp_path):
    folder = tmp_path / "new" / "folder"
    json_file, zip_file = write_submission(results, folder, "SoftPool_R-50")
    stem = "detections_test-dev2017_SoftPool_R-50_results"
    assert (json_file.name, zip_file.name) == (f"{stem}.json", f"{stem}.zip")
    assert sorted(folder.iterdir()) == [json_file, zip_file]
    assert json_file.read_text() == CONTENT
    with zipfile.ZipFile(zip_file) as archive:
        assert archive.namelist() == [f"{stem}.json"]
        assert archive.testzip() is None
        assert archive.read(f"{stem}.json").decode() == CONTENT
    assert zip_file.stat().st_size < len(CONTENT) / 10


def test_same_results_give_the_same_bytes(results, tmp_path):
    first = write_submission(results, tmp_path / "a", "x")
    # From the zip, this time.
    second = write_submission(first[1], tmp_path / "b", "x")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_results_may_lie_where_they_are_written(results, tmp_path):
    json_file = results.rename(tmp_path / f"{result_stem('x')}.json")
    assert write_submission(json_file, tmp_path, "x")[0] == json_file
    assert json_file.read_text() == CONTENT


@pytest.mark.parametrize("alg", ["", "a b", "../a", "_a", "ä"])
def test_alg_that_cannot_be_a_name(results, tmp_path, alg):
    with pytest.raises(ValueError, match="alg must be letters"):
        write_submission(results, tmp_path / "out", alg)
    assert not (tmp_path / "out").exists()


def test_missing_results_leave_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_submission(tmp_path / "none.json", tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()


def test_zip_of_several_files_is_refused(tmp_path):
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "[]")
        archive.writestr("b", "[]")
    with pytest.raises(ValueError, match="must hold one JSON file, it holds 2"):
        write_submission(path, tmp_path / "out", "x")


def test_interrupted_writing_leaves_the_old_files(results, tmp_path, monkeypatch):
    before = write_submission(results, tmp_path, "x")
    content = [path.read_bytes() for path in before]
    results.write_text("[]")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("softpool_det.testdev.write._zip", fail)
    with pytest.raises(OSError, match="disk full"):
        write_submission(results, tmp_path, "x")
    assert [path.read_bytes() for path in before] == content
    assert sorted(tmp_path.iterdir()) == sorted([results, *before])
