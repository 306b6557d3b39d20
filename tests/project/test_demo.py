"""`make demo`: what it refuses, and what a signal to make does."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ["JSON=a.json", "IMAGES=b"]


def demo(folder, *variables):
    """Start it with `folder` for its environment, as if that were set up."""
    command = ["make", "--old-file=setup", "demo", f"VENV={folder}", *variables]
    # Without what `make test` hands on, such as that it prints directories.
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


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
    trap = f"trap 'echo ended >{note}; kill $!; exit' TERM"
    program.write_text(f"#!/bin/sh\n{trap}\nsleep 30 &\necho\nwait\n")
    program.chmod(0o755)
    made = demo(tmp_path, *variables)
    made.stdout.readline()
    made.terminate()
    made.wait(10)
    assert note.read_text() == "ended\n"
