"""`make demo`: what it refuses, and what a signal to make does."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ["JSON=a.json", "IMAGES=b"]


def demo(folder, *variables):
    """Start it with `folder` for its environment, as if that were set up."""
    command = ["make", "--old-file=setup", "demo", f"VENV={folder}", *variables]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ([*OWN, "MODEL=yolo"], "MODEL must be retinanet or mask_rcnn, got yolo"),
        ([*OWN, "DATA=trees"], "JSON=... takes no DATA and no POOL: it compares SoftPool on your"),
        ([*OWN, "POOL=lip"], "JSON=... takes no DATA and no POOL"),
        (["JSON=a.json"], "JSON=... needs IMAGES=..., its folder of images"),
        (["IMAGES=b"], "IMAGES=... needs JSON=..., COCO's file about them"),
        (["DATA=tree"], "no demo for DATA=tree MODEL=retinanet; DATA_MODEL can be: digits_mask_"),
        (["SEEDS=1 b"], 'SEEDS must be whole numbers, such as "1 2 3", got 1 b'),
    ],
)
def test_refusals_are_a_line(variables, error, tmp_path):
    made = demo(tmp_path, *variables)
    output = made.communicate()[0]
    assert made.returncode == 2
    assert output.startswith(f"error: {error}")
    assert output.count("\n") == 1


@pytest.mark.parametrize("variables", [[], OWN])
def test_signal_to_make_reaches_the_program(variables, tmp_path):
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    note = tmp_path / "note"
    program.write_text(
        f"#!/bin/sh\ntrap 'echo ended >{note}; kill $!; exit' TERM\necho\nsleep 30 & wait\n"
    )
    program.chmod(0o755)
    made = demo(tmp_path, *variables)
    made.stdout.readline()
    made.terminate()
    made.wait(10)
    assert note.read_text() == "ended\n"
