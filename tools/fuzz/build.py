"""Compile the fuzzer with the CPU operators; only what has changed is compiled again."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
# -O1 keeps a call short; what an optimiser would take away is for `make sanitize`, which has -O0.
FLAGS = ["-std=c++20", "-O1", "-g1", "-fno-math-errno", "-fno-trapping-math", "-fno-wrapv"]
SANITIZERS = ["-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize-recover=all"]
# torch's classes have no type information in this build.
SANITIZERS += ["-fno-sanitize=vptr,function"]
# As in setup.py. Clang 14's optimiser does not come to an end with AVX-512 and sanitizers.
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-O0", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c"]
UNITS: dict[str, list[str]] = {
    "csrc/softpool_det.cpp": [],
    "csrc/cpu/soft_pool.cpp": [],
    "csrc/cpu/capability.cpp": [],
    "csrc/cpu/kernels_plain.cpp": ["-ffp-contract=fast"],
    "tools/fuzz/operator.cpp": [],
}
MACROS = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    units, macros = dict(UNITS), list(MACROS)
    if platform.machine() == "x86_64":
        for name, flags in (("avx2", AVX2), ("avx512", AVX512)):
            units[f"csrc/cpu/kernels_{name}.cpp"] = ["-ffp-contract=fast", *flags]
            macros.append(f"-DSOFT_POOL_{name.upper()}")
    headers = [*ROOT.glob("csrc/**/*.h"), *ROOT.glob("tools/fuzz/*.h"), Path(__file__)]
    newest = max(header.stat().st_mtime for header in headers)

    def compile_unit(unit: tuple[str, list[str]]) -> Path:
        source, flags = ROOT / unit[0], unit[1]
        target = args.output.with_name(f"{source.parent.name}_{source.stem}.o")
        age = max(newest, source.stat().st_mtime)
        if target.exists() and target.stat().st_mtime > age:
            return target
        folders = [*cpp_extension.include_paths(), sysconfig.get_path("include")]
        unfinished = target.with_suffix(".partial.o")
        command = [args.compiler, *FLAGS, *SANITIZERS, *flags]
        command += macros if unit[0].startswith("csrc") else []
        command += [f"-isystem{folder}" for folder in folders]
        subprocess.run([*command, "-c", str(source), "-o", str(unfinished)], check=True)
        unfinished.replace(target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as jobs:
        objects = list(jobs.map(compile_unit, units.items()))
    link(args.compiler, objects, args.output)


def link(compiler: str, objects: list[Path], output: Path) -> None:
    command = [compiler, "-fsanitize=address,undefined,fuzzer", *map(str, objects)]
    for folder in cpp_extension.library_paths():
        command += [f"-L{folder}", f"-Wl,-rpath,{folder}"]
    command += ["-ltorch_cpu", "-lc10", "-Wl,--allow-shlib-undefined"]
    unfinished = output.with_suffix(".partial")
    subprocess.run([*command, "-o", str(unfinished)], check=True)
    unfinished.replace(output)


if __name__ == "__main__":
    main()
