"""What setup.py builds, skips and says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def run_setup(
    *arguments: str, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if k not in ("FORCE_CUDA", "CXX")}
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=root,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )


def build_into(folder: Path, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    folders = ("--build-lib", str(folder), "--build-temp", str(folder / "objects"))
    return run_setup("build_ext", *folders, root=root, **environment)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_force_cuda_builds_both_libraries(tmp_path):
    result = build_into(tmp_path, FORCE_CUDA="1")
    assert result.returncode == 0, result.stdout + result.stderr
    libraries = [next((tmp_path / "softpool_det").glob(f"{name}.*")) for name in ("_C", "_C_cuda")]
    # The CUDA library loads without a GPU too, and both hold kernels.
    program = f"""
import torch
for library in {[str(library) for library in libraries]}:
    torch.ops.load_library(library)
for name in ("soft_pool", "affine_relu_soft_pool"):
    for device in ("CPU", "CUDA"):
        for suffix in ("", "_backward"):
            operator = "softpool_det::" + name + suffix
            assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, device), operator
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_is_skipped_with_one_line_without_a_gpu():
    result = run_setup("--name")
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).splitlines() == [
        "softpool_det: CUDA kernel not built: no GPU here (FORCE_CUDA=1 builds it all the same)",
        "softpool_det",
    ]


def test_without_a_compiler_the_operator_is_skipped_with_one_line(tmp_path):
    result = build_into(tmp_path, CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if "softpool_det" in line] == [
        "softpool_det: no C++ compiler, operator not built: plain PyTorch will be used"
    ]
    assert not list(tmp_path.rglob("*_C*"))


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_a_compile_error_fails_the_build(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "csrc" / "softpool_det.cpp").write_text("this is not C++\n")
    result = build_into(tmp_path / "out", root=tmp_path)
    assert result.returncode != 0
    assert "this is not C++" in result.stdout + result.stderr
