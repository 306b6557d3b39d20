"""tools/similarity.py as a user runs it."""

import json
import re

import pytest
from PIL import Image

from softpool_det.cli import similarity as program
from softpool_det.similarity.datasets import DATASETS
from softpool_det.similarity.metrics import PROTOCOLS

QUICK = ["--kernel-sizes", "2", "3", "--train-steps", "2"]
FEW = ["--poolings", "softpool", "avg", "max", "stochastic", "mixed", "gated", *QUICK]
# Starting processes is what takes the time.
FEWEST = ["--poolings", "softpool", "s3", "gated", "--kernel-sizes", "2", "--train-steps", "2"]
FILES = ["pooled.png", "similarity.html", "similarity.json", "similarity.md"]


def test_end_to_end(folder, similarity, tmp_path):
    output = tmp_path / "new" / "out"
    # A file's name that would be a formula, and markup.
    (folder / "coffee.png").rename(folder / "d$x_{$<b>.png")
    text = similarity("--images", folder, "--output", output, *FEW, "--pdf")
    assert sorted(path.name for path in output.iterdir()) == sorted([*FILES, "pooled.pdf"])
    data = json.loads((output / "similarity.json").read_text())
    assert [image["name"] for image in data["images"]["training"]] == ["astronaut.png"]
    assert data["images"]["measured"] == [{"name": "d$x_{$<b>.png", "width": 73, "height": 89}]
    assert len(data["results"]) == 2 * 8
    assert len(data["training"]) == 2 * 2
    assert data["versions"]["scikit-image"]
    markdown = (output / "similarity.md").read_text()
    assert markdown in text
    assert "| Average" in markdown
    assert "0.714, 51.25" in markdown
    page = (output / "similarity.html").read_text()
    assert "<b>" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    with Image.open(output / "pooled.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_the_same_file_for_any_number_of_processes(folder, similarity, tmp_path):
    for jobs in (1, 2):
        similarity("--images", folder, "--output", tmp_path / str(jobs), *FEWEST, "--jobs", jobs)
    for name in FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_without_trained_poolings_all_images_are_measured(folder, similarity, tmp_path):
    settings = ["--images", folder, "--output", tmp_path / "out", "--kernel-sizes", "2"]
    similarity(*settings, "--poolings", "avg", "mixed", "--train-steps", "0", "--protocol", "down")
    data = json.loads((tmp_path / "out" / "similarity.json").read_text())
    assert data["images"]["training"] == data["training"] == []
    assert len(data["images"]["measured"]) == 2
    assert {*data["results"][0]["ssim"]} == {"down"}


def test_one_image_is_enough_without_training(folder, similarity, tmp_path):
    arguments = ["--images", folder, "--limit", "1", "--output", tmp_path / "out"]
    similarity(*arguments, "--poolings", "max", "--kernel-sizes", "2")
    assert (tmp_path / "out" / "similarity.html").is_file()
    with pytest.raises(SystemExit, match="one image cannot be trained on and measured, too"):
        similarity(*arguments, "--poolings", "mixed", "--kernel-sizes", "2")


def error(similarity, *arguments):
    with pytest.raises(SystemExit) as end:
        similarity(*arguments)
    return str(end.value)


def test_errors(folder, similarity, tmp_path):
    out = ["--output", tmp_path / "out"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no images in" in error(similarity, "--images", empty, *out)
    assert "folder of images not found" in error(similarity, "--images", tmp_path / "none", *out)
    assert "no pooling 'x'; there are: avg," in error(similarity, "--poolings", "x", *out)
    (folder / "b.jpg").write_text("no image")
    text = error(similarity, "--images", folder, *out)
    assert text.startswith(f"error: {folder / 'b.jpg'} cannot be read as an image")
    Image.new("RGB", (60, 54)).save(folder / "b.jpg")
    text = error(similarity, "--images", folder, *out)
    assert f"{folder / 'b.jpg'} has 60x54 pixels: pooled by 5 it would have fewer than 11" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_image_that_is_cut_off_is_named(folder, similarity, tmp_path, jobs):
    path = folder / "coffee.png"
    path.write_bytes(path.read_bytes()[:2000])
    arguments = ["--images", folder, "--output", tmp_path / "out", "--jobs", jobs, *FEW]
    assert error(similarity, *arguments).startswith(f"error: {path} cannot be read as an image")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--dataset", "div2k"], "--dataset and --root go together"),
        (["--root", "a"], "--dataset and --root go together"),
        (["--dataset", "div2k", "--root", "a", "--images", "b"], "not both"),
        (["--kernel-sizes", "1"], "1 is less than 2"),
        (["--jobs", "0"], "0 is less than 1"),
    ],
)
def test_options_that_do_not_fit(similarity, capsys, arguments, text):
    assert error(similarity, *arguments) == "2"
    assert text in capsys.readouterr().err


def test_the_program_knows_the_names_without_loading_them():
    assert set(program.PROTOCOLS) == set(PROTOCOLS)
    assert set(program.DATASETS) == set(DATASETS)
