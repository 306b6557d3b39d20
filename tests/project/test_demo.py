"""`make demo`: what it refuses, and what a signal to make does."""

import os
import subprocess
from pathlib import Path

import pytest

from softpool_det.config import load_config

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


@pytest.mark.parametrize(
    ("variables", "arms"),
    [
        ([], ["stock", "SoftPool", "SoftPool 3x3 beta 4"]),
        (["DATA=trees"], ["stock", "SoftPool", "SoftPool 3x3 beta 4"]),
        (["MODEL=mask_rcnn"], ["stock", "SoftPool", "SoftPool 3x3 beta 4"]),
        (["POOL=lip"], ["stock", "lip"]),
    ],
)
def test_the_arms(variables, arms, tmp_path):
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    words = demo(tmp_path, *variables).communicate()[0].splitlines()
    begins = [place + 1 for place, word in enumerate(words) if word == "--arm"]
    assert [words[begin] for begin in begins] == arms
    ends = [place for place, word in enumerate(words) if word.startswith("--")]
    for name, begin in zip(arms, begins, strict=True):
        config, *overrides = words[begin + 1 : min(end for end in ends if end > begin)]
        pool = load_config(str(ROOT / config), overrides).MODEL.STEM_POOL
        if name == "lip":
            assert pool.NAME == "lip"
        elif name != "stock":
            assert (4.0 if "beta 4" in name else 1.0) == pool.BETA
            assert (3 if "3x3" in name else 2) == pool.KERNEL_SIZE


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
