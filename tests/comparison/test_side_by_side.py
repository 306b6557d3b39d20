"""Runs side by side, with a stub in the place of the program that trains."""

import contextlib
import re
import signal
from dataclasses import replace

import pytest
from test_compare import CONFIGS

from softpool_det.comparison import arms
from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.side_by_side import _share, run_side_by_side
from softpool_det.training.signals import Interrupted


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Gives two runs of a program that is written by the test."""

    def make(program):
        (tmp_path / "stub_program.py").write_text(program)
        arm = Arm("stock", str(CONFIGS / "digits_retinanet_R_18_FPN.yaml"))
        return [Run(arm, seed, tmp_path / f"seed_{seed}") for seed in (1, 2)]

    monkeypatch.setattr(arms, "PROGRAM", "stub_program")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return make


@pytest.mark.parametrize(("status", "raised"), [(0, Interrupted), (1, RuntimeError)])
def test_a_run_that_a_signal_makes_fail_is_an_error(stubs, tmp_path, status, raised):
    """A disk may be full when it saves."""
    program = "import signal, sys, time\nfrom pathlib import Path\n"
    program += f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))\n"
    program += f"Path({str(tmp_path)!r}, 'started').touch()\ntime.sleep(60)\n"
    runs = stubs(program)

    def stop():
        if (tmp_path / "started").is_file():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(raised):
        run_side_by_side(runs, 1, None, tmp_path, stop)
    assert not (tmp_path / "seed_2" / "stdout.txt").exists()


def test_a_run_that_another_program_finishes_is_not_run_again(stubs, tmp_path):
    first, second = stubs("raise SystemExit(3)")
    first.folder.mkdir()
    first.result.write_text("{}")
    with first.claimed():
        pass
    held = contextlib.ExitStack()
    held.enter_context(second.claimed())

    def finish():
        second.result.write_text("{}")
        held.close()

    run_side_by_side([first, second], 1, None, tmp_path, finish)
    assert not (second.folder / "stdout.txt").exists()


def test_progress_is_that_of_the_iterations(stubs):
    (run, _) = stubs("")
    line, step = '{{"iteration": {}, "time": 1.0}}\n', 750 / 100
    run.folder.mkdir()
    metrics = run.folder / "metrics.json"
    assert _share(run) == 0
    metrics.write_text(line.format(int(step) - 1) + '{"iteration": 7')
    assert _share(run) == pytest.approx(0.01, abs=0.002)
    # An evaluation of many classes writes a long one.
    metrics.write_text(line.format(374) + line.format(374)[:-2] + f', "classes": "{"x" * 20000}"}}')
    assert _share(run) == 0.5
    metrics.write_text(line.format(750))
    assert _share(run) == 1
    assert _share(replace(run, arm=replace(run.arm, weights="w.pth"))) == 0


def test_the_bar_shows_the_share_and_not_what_was_done_before(stubs, tmp_path, capfd):
    runs = stubs("import time\ntime.sleep(2)\nraise SystemExit(3)")
    for run, iteration in zip(runs, (374, 187), strict=True):
        run.folder.mkdir()
        (run.folder / "metrics.json").write_text(f'{{"iteration": {iteration}}}\n')
    with pytest.raises(RuntimeError, match=r"seed 1, ended with status 3.*\n.*seed 2, ended"):
        run_side_by_side(runs, 2, None, tmp_path)
    first = re.split(r"[\r\n]", capfd.readouterr().err)[1]
    assert " 38%|" in first
    assert "| 0.751/2 runs [00:00<?" in first
