"""tools/fuzz.sh and the corpus it begins with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
