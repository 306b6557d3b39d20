"""Build of the compiled operator; the package's metadata is in pyproject.toml.

FORCE_CUDA=1 builds the CUDA kernel without a GPU. CUDA_HOME, TORCH_CUDA_ARCH_LIST and MAX_JOBS mean
what they mean to torch.utils.cpp_extension. SOFTPOOL_SANITIZE=1 builds the CPU operator with
AddressSanitizer and UndefinedBehaviorSanitizer (see `make sanitize`).
"""

import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import torch
from setuptools import setup
from setuptools.command.build_py import build_py


def find_cuda_home():
    """The toolkit's folder by nvcc's own account: the nvcc on the PATH may be a wrapper script."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    plan = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+?)\s*$", plan.stderr, re.MULTILINE)
    return os.path.realpath(top[1]) if top else None


# cpp_extension settles CUDA_HOME when it is imported, and warns without a GPU: whether that
# matters is said below.
if not (os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")):
    cuda_home = find_cuda_home()
    if cuda_home is not None:
        os.environ["CUDA_HOME"] = cuda_home
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
from torch.utils import cpp_extension  # noqa: E402

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.NOTSET)

# -fno-trapping-math lets the compiler vectorise selections; no code here looks at floating-point
# flags.
COMPILE_ARGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
# The CPU kernels are compiled once for each of these; csrc/cpu/capability.cpp chooses at run time.
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c"]
UNIT_ARGS = {"plain": [], "avx2": AVX2, "avx512": [*AVX512, "-mprefer-vector-width=512"]}
# Without recovery undefined behaviour ends the process, as what AddressSanitizer finds does.
# Python's own flags have -fwrapv, which makes signed overflow defined and hides it. With -O0 every
# read is left to be checked, and each unit compiles in half a minute rather than several.
SANITIZE_ARGS = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-wrapv"]
SANITIZE = os.environ.get("SOFTPOOL_SANITIZE", "0") != "0"


def why_no_cuda():
    """Why the CUDA kernel is not built, or None where it is."""
    wanted = os.environ.get("FORCE_CUDA")
    if wanted == "0":
        return "FORCE_CUDA=0"
    if wanted != "1" and not torch.cuda.is_available():
        return "no GPU here (FORCE_CUDA=1 builds it anyway)"
    reason = why_no_nvcc()
    if reason is not None and wanted == "1":
        sys.exit(f"softpool_det: FORCE_CUDA=1, but there is {reason}")
    return reason


def why_no_nvcc():
    """Return why torch finds no nvcc to build with, or None if it finds one."""
    if torch.version.cuda is None:
        return "a torch without CUDA here"
    nvcc = cpp_extension.CUDA_HOME and shutil.which(
        "nvcc", path=os.path.join(cpp_extension.CUDA_HOME, "bin")
    )
    if not nvcc:
        return "no nvcc here (put it on the PATH or set CUDA_HOME)"
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)", version)
    if release is None or release[1] != torch.version.cuda.split(".")[0]:
        found = release[1] if release else "unknown"
        return f"nvcc of CUDA {found}, but torch of CUDA {torch.version.cuda}"
    return None


def why_no_compiler():
    """What is missing to build anything, or None."""
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "no Python.h (Debian: the package python3-dev)"
    return "no C++ compiler" if shutil.which(cxx()[0]) is None else None


def cxx():
    return os.environ.get("CXX", "c++").split()


def knows(flags):
    """Whether the C++ compiler takes these flags."""
    nothing = ["-x", "c++", "-c", os.devnull, "-o", os.devnull]
    return subprocess.run([*cxx(), *flags, *nothing], capture_output=True).returncode == 0


def unit_source(name):
    return f"csrc/cpu/kernels_{name}.cpp"


def kernel_units():
    """The units of the CPU kernels to build, with the flags of each; says which are left out."""
    units = {}
    for name, flags in UNIT_ARGS.items():
        if flags and platform.machine() != "x86_64":
            continue
        if knows(flags):
            # Without -fno-exceptions a unit defines a weak symbol for them.
            units[name] = [*COMPILE_ARGS, "-ffp-contract=fast", "-fno-exceptions", *flags]
        else:
            print(f"softpool_det: {name} kernels not built: the compiler refuses {' '.join(flags)}")
    return units


class BuildWithUnits(cpp_extension.BuildExtension):
    """Gives the units flags of their own: setuptools knows one set for each extension."""

    def build_extension(self, ext):
        if ext.name == "softpool_det._C":
            units = kernel_units()
            found = [(f"SOFT_POOL_{name.upper()}", None) for name in units if name != "plain"]
            ext.define_macros = [*ext.define_macros, *found]
            with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as jobs:
                compiled = jobs.map(lambda unit: self.compile_unit(ext, *unit), units.items())
                for objects in compiled:
                    ext.extra_objects.extend(objects)
        super().build_extension(ext)

    def compile_unit(self, ext, name, flags):
        return self.compiler.compile(
            [unit_source(name)],
            # Ninja's files have fixed names: each unit has a folder of its own for them.
            output_dir=os.path.join(self.build_temp, name),
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            debug=self.debug,
            extra_postargs=[*flags, *(SANITIZE_ARGS if SANITIZE else [])],
            depends=ext.depends,
        )


class BuildWithConfigs(build_py):
    """Packs the configs as softpool_det/model_zoo/configs, where the wheel's users find them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = os.path.join(self.build_lib, "softpool_det", "model_zoo", "configs")
            shutil.copytree("configs", target, dirs_exist_ok=True)


def cpu_extension(common):
    sanitize = SANITIZE_ARGS if SANITIZE else []
    units = [unit_source(name) for name in UNIT_ARGS]
    return cpp_extension.CppExtension(
        "softpool_det._C",
        ["csrc/softpool_det.cpp", "csrc/cpu/soft_pool.cpp", "csrc/cpu/capability.cpp"],
        extra_compile_args={"cxx": [*COMPILE_ARGS, *sanitize]},
        extra_link_args=sanitize,
        **{**common, "depends": [*common["depends"], *units]},
    )


def extensions():
    common = {
        # Runs under every torch from 2.10 and every Python from 3.10 on.
        "define_macros": [("TORCH_TARGET_VERSION", "0x020a000000000000")],
        "py_limited_api": True,
        "depends": sorted(glob("csrc/**/*.*h", recursive=True)),
    }
    reason = why_no_compiler()
    if reason is not None:
        print(f"softpool_det: {reason}, operator not built: plain PyTorch will be used")
        return []
    built = [cpu_extension(common)]
    reason = why_no_cuda()
    if reason is not None:
        print(f"softpool_det: CUDA kernel not built: {reason}")
        return built
    if not torch.cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    common["define_macros"] = [*common["define_macros"], ("USE_CUDA", None)]
    cuda = cpp_extension.CUDAExtension(
        "softpool_det._C_cuda", sorted(glob("csrc/cuda/*.cu")), **common
    )
    return [*built, cuda]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildWithUnits, "build_py": BuildWithConfigs},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
