"""The line with which a program fails."""

import errno
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from softpool_det.cli.program import run_program
from softpool_det.io.data_errors import DataError
from softpool_det.io.errors import error_text
from softpool_det.training import EXPECTED, describe
from softpool_det.training.run_errors import setting_up

ROOT = Path(__file__).parents[2]
DETECTOR = str(ROOT / "configs/demo/digits_retinanet_R_18_FPN.yaml")
CLASSIFIER = str(ROOT / "configs/classification/digits.yaml")
PICTURE = str(ROOT / "docs/assets/report.png")
WRONG_KEY = ["SOLVER.BASE_LRR", "1"]
WRONG = "Non-existent key: SOLVER.BASE_LRR; the nearest keys are SOLVER.BASE_LR"


def run_here(monkeypatch, tmp_path, program, *arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    runpy.run_path(str(ROOT / "tools" / program), run_name="__main__")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("no pooling 'A'; there are: B"), "no pooling 'A'; there are: B"),
        (KeyError("bbox"), "KeyError: 'bbox'"),
        (KeyError(7), "KeyError: 7"),
        (KeyError(), "KeyError"),
        (MemoryError(), "MemoryError"),
        (AssertionError(), "AssertionError"),
        (ValueError("  "), "ValueError"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b.json"), "a/b.json: No such file"),
        (FileNotFoundError(errno.ENOENT, "No such file", b"b\xff"), "b\udcff: No such file"),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), "a -> b: Cross-device link"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("a cannot be written"), "a cannot be written"),
        (ValueError("a", "b"), "('a', 'b')"),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nTrace\nOSError: no a.png\n"),
            "no a.png",
        ),
    ],
)
def test_text_of_an_error(error, text):
    assert error_text(error) == text


def test_text_of_what_python_raises(tmp_path):
    (tmp_path / "text").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError) as error:
        (tmp_path / "text").read_text(encoding="utf-8")
    assert error_text(error.value).startswith("'utf-8' codec can't decode byte 0xff in position 0")
    with pytest.raises(OSError, match="directory") as error:
        (tmp_path / "none").read_text()
    assert error_text(error.value) == f"{tmp_path / 'none'}: No such file or directory"


def test_expected_errors_end_a_program_with_their_line():
    def fail(error):
        raise error

    with pytest.raises(SystemExit) as end:
        run_program(fail, KeyError("one line of text"))
    assert end.value.code == "error: one line of text"
    with pytest.raises(TypeError):
        run_program(fail, TypeError("a fault of the program"))
    with pytest.raises(KeyError):
        run_program(fail, KeyError("one line of text"), expected=EXPECTED)
    with pytest.raises(SystemExit) as end:
        run_program(fail, SystemExit(3))
    assert end.value.code == 3
    assert run_program(dict) is None


def test_ctrl_c_is_a_line(capsys):
    with pytest.raises(SystemExit) as end:
        run_program(signal.raise_signal, signal.SIGINT)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("program", "arguments", "start"),
    [
        ("train_net.py", ["--config-file", DETECTOR, *WRONG_KEY], WRONG),
        (
            "visualize.py",
            ["--config-file", DETECTOR, "--input", PICTURE, "--output", "b.png", *WRONG_KEY],
            WRONG,
        ),
        (
            "compare.py",
            ["--baseline", DETECTOR, "--candidate", DETECTOR, "--", *WRONG_KEY],
            WRONG,
        ),
        ("train_classifier.py", [CLASSIFIER, "epoch=1"], f"{CLASSIFIER}: there is no key 'epoch'"),
        ("tables.py", ["5", "--poolings", "soup"], "no pooling is called 'soup'"),
        (
            "export_testdev.py",
            ["--validate", "a.json", "--dataset", "coco_2017"],
            "no data set 'coco_2017' is registered with Detectron2",
        ),
        ("convert_weights.py", ["none.pth", "a.safetensors"], "none.pth"),
    ],
)
def test_programs_write_no_quotes_around_their_error(
    program, arguments, start, tmp_path, monkeypatch
):
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, tmp_path, program, *arguments)
    assert str(end.value).startswith(f"error: {start}")
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_is_not_text(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_bytes(b"MODEL: \xff")
    with pytest.raises(SystemExit, match=r"^error: .*(0xff|#xff|config\.yaml)"):
        run_here(monkeypatch, tmp_path, "train_net.py", "--config-file", "config.yaml")


def test_set_up_says_what_an_error_with_several_arguments_says():
    with pytest.raises(DataError, match=r"can't decode byte 0xff"), setting_up():
        b"\xff".decode()
    with pytest.raises(DataError, match=r"^RuntimeError$"), setting_up():
        raise RuntimeError


def test_an_error_that_replaces_another_is_described_itself():
    def fail():
        try:
            raise FileNotFoundError(errno.ENOENT, "No such file", "cache")
        except OSError:
            raise DataError("what counts") from None

    with pytest.raises(SystemExit) as end:
        run_program(fail, expected=EXPECTED, describe=describe)
    assert end.value.code == "error: what counts"


def test_warnings_of_others_that_nobody_can_act_on_are_silenced():
    program = """
import warnings, torch
from softpool_det.cli.program import run_program

def main():
    torch.meshgrid(torch.ones(2))
    torch.frombuffer(b"1234", dtype=torch.uint8)
    warnings.warn("kept", UserWarning)

run_program(main)
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("<string>:8: UserWarning: kept")
    assert done.stderr.count("Warning") == 1


def test_a_terminal_without_our_letters_shows_their_codes():
    program = (
        "from softpool_det.cli.program import run_program; run_program(print, '\\u2212 \\u65e5')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "\\u2212 \\u65e5\n")
