import runpy
import sys
from pathlib import Path

import pytest

from softpool_det.io.images import read_rgb
from softpool_det.similarity.photographs import installed_photographs

PROGRAM = str(Path(__file__).parents[2] / "tools" / "similarity.py")


@pytest.fixture(scope="session")
def pictures():
    """Two small pieces of real photographs, of sizes that no kernel divides."""
    paths = {photograph.name: photograph.path for photograph in installed_photographs()}
    boxes = {"astronaut.png": (150, 30, 241, 107), "coffee.png": (230, 80, 303, 169)}
    return {name: read_rgb(paths[name]).crop(box) for name, box in boxes.items()}


@pytest.fixture
def folder(pictures, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, picture in pictures.items():
        picture.save(folder / name)
    return folder


@pytest.fixture
def similarity(monkeypatch, capsys):
    """The program without the seconds of a new process; what it prints."""

    def similarity_with(*arguments):
        monkeypatch.setattr(sys, "argv", [PROGRAM, *map(str, arguments)])
        runpy.run_path(PROGRAM, run_name="__main__")
        return capsys.readouterr().out

    return similarity_with
