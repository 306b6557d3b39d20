"""One wheel for every torch and every Python: built here, tested beside another torch.

SOFTPOOL_WHEEL_TORCH and SOFTPOOL_WHEEL_PYTHON choose what beside; `make test-wheel` sets them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    # A torch with CUDA is about 3 GB to fetch.
    pytest.mark.timeout(3600),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
]

ROOT = Path(__file__).resolve().parents[2]
TORCH = os.environ.get("SOFTPOOL_WHEEL_TORCH") or "2.13.0"
PYTHON = os.environ.get("SOFTPOOL_WHEEL_PYTHON") or sys.executable
ASKED_FOR = bool(os.environ.get("SOFTPOOL_WHEEL_TORCH"))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """The folder of what `make wheel` makes."""
    folder = tmp_path_factory.mktemp("dist")
    command = ["make", "wheel", f"DIST={folder}", f"VENV={sys.prefix}"]
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_CUDA"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def uv(*arguments: str) -> None:
    """Run uv; where it fails the test is skipped, unless this torch was asked for by name."""
    program = shutil.which(
        "uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("no uv here (make setup installs it)")
    environment = dict(os.environ)
    # uv does not read pip's settings; builds of torch for the CPU may lie in such a folder.
    if "PIP_FIND_LINKS" in environment:
        environment.setdefault("UV_FIND_LINKS", ",".join(environment["PIP_FIND_LINKS"].split()))
    result = subprocess.run(
        [program, "--no-progress", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )
    if result.returncode != 0:
        reason = f"no environment with torch {TORCH} for {PYTHON}: {result.stderr.strip()}"
        pytest.fail(reason, pytrace=False) if ASKED_FOR else pytest.skip(reason)


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Iterator[Path]:
    """Python of an environment with the wheel, another torch and what the tests need."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    try:
        uv("venv", "--clear", "--python", PYTHON, str(folder))
        install = ("pip", "install", "--python", str(python))
        packages = ["numpy", "pytest", "hypothesis", "onnx", "onnxruntime", "onnxscript"]
        packages += ["setuptools>=77,<81", "ninja"]  # to build the sdist
        uv(*install, f"torch=={TORCH}", *packages)
        uv(*install, "--no-deps", str(wheel))
        yield python
    finally:
        # pytest keeps the folders of its last runs; this one has several GB.
        shutil.rmtree(folder)


def test_wheel_is_for_every_python_from_3_10_on(wheel):
    assert "-cp310-abi3-manylinux_" in wheel.name


def test_sdist_builds_beside_another_torch(distributions, python, tmp_path):
    (sdist,) = distributions.glob("*.tar.gz")
    install = ("pip", "install", "--python", str(python), "--no-build-isolation", "--no-deps")
    uv(*install, "--target", str(tmp_path), str(sdist))
    program = """
import torch
from softpool_det import _C, model_zoo
from softpool_det.ops import _library, soft_pool2d
assert _C.__file__.startswith(%r), _C.__file__
assert "cpu" in _library.COMPILED_DEVICES
print(soft_pool2d(torch.arange(4.0).view(1, 1, 2, 2), 2))
model_zoo.get_config_file("COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml")
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), "-c", program % str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_operators_tests_pass_beside_another_torch(python, tmp_path):
    # A copy, so that the sources beside the tests are not what is imported.
    shutil.copytree(ROOT / "tests" / "ops", tmp_path / "tests" / "ops")
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")  # the emulator compiles it
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    program = """
import sys
import numpy, torch
from softpool_det import _C
from softpool_det.ops import _library
assert _C.__file__.startswith(sys.prefix), _C.__file__
assert "cpu" in _library.COMPILED_DEVICES
print("Python", sys.version.split()[0], "torch", torch.__version__, "numpy", numpy.__version__)
"""
    # pytest's settings name options of plug-ins that are not there.
    options = ("-p", "no:cacheprovider", "-W", "ignore:Unknown config option")
    for arguments in (("-c", program), ("-m", "pytest", "-q", *options)):
        command = [str(python), *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
