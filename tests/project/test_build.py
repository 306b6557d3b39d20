"""What setup.py builds, skips and says."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("plain", "avx2", "avx512")

x86_with_binutils = pytest.mark.skipif(
    platform.machine() != "x86_64" or None in map(shutil.which, ("c++", "nm", "objdump")),
    reason="needs an x86-64 with a C++ compiler, nm and objdump",
)


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


@pytest.mark.slow
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
for name in ("soft_pool", "soft_pool_backward"):
    for device in ("CPU", "CUDA"):
        operator = "softpool_det::" + name
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, device), operator
"""
    program += f"""
import importlib.util
spec = importlib.util.spec_from_file_location("_C_cuda", {str(libraries[1])!r})
# Without a GPU nothing speaks against the first one.
assert importlib.util.module_from_spec(spec).runs_on(0) is True
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_only_linux_is_claimed():
    metadata = (ROOT / "pyproject.toml").read_text()
    assert re.findall(r"Operating System :: [^\"]+", metadata) == [
        "Operating System :: POSIX :: Linux"
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_is_skipped_with_one_line_without_a_gpu():
    result = run_setup("--name")
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).splitlines() == [
        "softpool_det: CUDA kernel not built: no GPU here (FORCE_CUDA=1 builds it anyway)",
        "softpool_det",
    ]


def test_without_a_compiler_the_operator_is_skipped_with_one_line(tmp_path):
    result = build_into(tmp_path, CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if "softpool_det" in line] == [
        "softpool_det: no C++ compiler, operator not built: plain PyTorch will be used"
    ]
    assert not list(tmp_path.rglob("*_C*"))


def executable(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module", params=["with ninja", "without ninja"])
def built(request, tmp_path_factory) -> tuple[Path, str]:
    """Folder and output of a build of the CPU operator."""
    folder = tmp_path_factory.mktemp("build")
    # A ninja that fails its own --version is none to torch. The other one lies beside Python.
    first = executable(folder / "ninja", "exit 1").parent
    if request.param == "with ninja":
        first = Path(sys.executable).parent
    path = os.pathsep.join([str(first), os.environ["PATH"]])
    result = build_into(folder, FORCE_CUDA="0", PATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout + result.stderr


def unit_object(folder: Path, unit: str) -> Path:
    return next((folder / "objects").rglob(f"kernels_{unit}.o"))


def symbols(file: Path) -> dict[str, str]:
    """Name and kind of what the file defines, as nm calls it."""
    lines = subprocess.check_output(["nm", "--defined-only", str(file)], text=True).splitlines()
    return {name: kind for _, kind, name in map(str.split, lines)}


@pytest.mark.slow
@x86_with_binutils
def test_units_are_compiled_for_their_instruction_sets_and_linked(built):
    folder, output = built
    library = symbols(next((folder / "softpool_det").glob("_C.*")))
    expected = {"plain": set(), "avx2": {"ymm"}, "avx512": {"ymm", "zmm"}}
    for unit in UNITS:
        file = unit_object(folder, unit)
        code = subprocess.check_output(
            ["objdump", "-d", "--no-show-raw-insn", str(file)], text=True
        )
        registers = {name for name in ("ymm", "zmm") if f"%{name}" in code}
        # Wide registers at their narrower widths are the compiler's choice.
        assert max(registers, default="") == max(expected[unit], default="")
        # The table of kernels is all that a unit shows; upper case says that others see it.
        (table,) = [name for name, kind in symbols(file).items() if kind.isupper()]
        assert f"k{unit.capitalize()}Kernels" in table
        assert table in library
    (command,) = [line for line in output.splitlines() if "-c" in line and "/soft_pool.cpp" in line]
    assert {"-DSOFT_POOL_AVX2", "-DSOFT_POOL_AVX512"} <= set(shlex.split(command))


@pytest.mark.slow
@x86_with_binutils
@pytest.mark.parametrize("unit", ["avx2", "avx512"])
def test_units_define_nothing_that_the_linker_may_choose(built, unit):
    """It keeps one copy of each weak symbol: std:: code of this unit could run on any machine."""
    defined = symbols(unit_object(built[0], unit))
    assert {name: kind for name, kind in defined.items() if kind in "uvVwW"} == {}


@pytest.mark.slow
@x86_with_binutils
def test_operator_uses_the_stable_abi_alone(built):
    library = next((built[0] / "softpool_det").glob("_C.abi3.*"))
    command = ["nm", "--dynamic", "--undefined-only", "--demangle", str(library)]
    names = [
        line.split(maxsplit=1)[1]
        for line in subprocess.check_output(command, text=True).splitlines()
    ]
    assert any(name.startswith(("aoti_torch_", "torch_")) for name in names)
    assert [name for name in names if name.startswith(("at::", "c10::", "torch::"))] == []


@pytest.mark.slow
@x86_with_binutils
def test_a_unit_whose_flags_the_compiler_refuses_is_left_out_with_one_line(tmp_path):
    refuse = ['case "$*" in *-mavx512*) echo "unknown option" >&2; exit 1;; esac', 'exec c++ "$@"']
    compiler = executable(tmp_path / "old-c++", *refuse)
    result = build_into(tmp_path, FORCE_CUDA="0", CXX=str(compiler))
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line for line in result.stdout.splitlines() if "softpool_det: avx" in line] == [
        "softpool_det: avx512 kernels not built: the compiler refuses -mavx512f -mavx512dq "
        "-mavx512bw -mavx512vl -mfma -mf16c -mprefer-vector-width=512"
    ]
    built_units = {path.stem for path in (tmp_path / "objects").rglob("kernels_*.o")}
    assert built_units == {"kernels_plain", "kernels_avx2"}
    assert "-DSOFT_POOL_AVX2" in result.stdout
    assert "-DSOFT_POOL_AVX512" not in result.stdout


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_a_compile_error_fails_the_build(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    # In every unit: ninja waits for those that it has begun, minutes for the whole ones.
    for unit in (tmp_path / "csrc").rglob("*.cpp"):
        unit.write_text("this is not C++\n")
    result = build_into(tmp_path / "out", root=tmp_path)
    assert result.returncode != 0
    assert "this is not C++" in result.stdout + result.stderr
