"""tools/fuzz.sh and the corpus it begins with; tools/neon.sh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tools" / "fuzz" / "corpus.txt"


def corpus(*arguments):
    program = ROOT / "tools" / "fuzz" / "corpus.py"
    subprocess.run([sys.executable, program, *map(str, arguments)], check=True)


def test_corpus_is_kept_as_lines(tmp_path):
    """A file for each line and back; not larger than a fuzzer needs."""
    folder, again = tmp_path / "corpus", tmp_path / "corpus.txt"
    folder.mkdir()
    corpus("unpack", CORPUS, folder)
    lines = CORPUS.read_text().splitlines()
    assert len(list(folder.iterdir())) == len(lines) > 100
    assert CORPUS.stat().st_size < 200_000
    corpus("pack", folder, again)
    assert again.read_text() == CORPUS.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("clang++-14") is None, reason="needs clang-14 with libFuzzer")
def test_short_run():
    """Builds it, where that has not been done, and fuzzes each instruction set for ten seconds."""
    environment = {**os.environ, "PYTHON": sys.executable, "SECONDS_EACH": "10"}
    result = subprocess.run(
        [ROOT / "tools" / "fuzz.sh"], env=environment, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "fuzz: plain kernels\nstat::number_of_executed_units" in result.stdout


def neon(*arguments, **environment):
    return subprocess.run(
        [ROOT / "tools" / "neon.sh", *arguments],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


def test_missing_tools_are_named_with_their_packages():
    result = neon(CXX="no-such-g++", QEMU="no-such-qemu -L /")
    assert result.returncode == 1
    assert "no-such-g++ (Debian: g++-aarch64-linux-gnu)" in result.stderr
    assert "no-such-qemu (Debian: qemu-user)" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    None in map(shutil.which, ("aarch64-linux-gnu-g++", "qemu-aarch64")),
    reason="needs g++-aarch64-linux-gnu and qemu-user",
)
def test_kernels_of_another_processor():
    result = neon("60")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout == "60 cases of 4 types, 0 wrong\n"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_kernels_for_any_machine_without_pytorch():
    result = neon("300", CXX="g++", QEMU="env")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout == "300 cases of 4 types, 0 wrong\n"
