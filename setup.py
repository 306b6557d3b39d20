"""Build of the compiled operator; the package's metadata is in pyproject.toml.

FORCE_CUDA=1 builds the CUDA kernel without a GPU. CUDA_HOME and TORCH_CUDA_ARCH_LIST mean what
they mean to torch.utils.cpp_extension.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from glob import glob

import torch
from setuptools import setup
from setuptools.errors import PlatformError


def find_cuda_home():
    """The toolkit's folder by nvcc's own account: the nvcc on the PATH may be a wrapper script."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    plan = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+?)\s*$", plan.stderr, re.MULTILINE)
    return os.path.realpath(top[1]) if top else None


# cpp_extension settles CUDA_HOME when it is imported, and warns that there is no GPU: whether that
# matters is said below.
if not (os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")):
    cuda_home = find_cuda_home()
    if cuda_home is not None:
        os.environ["CUDA_HOME"] = cuda_home
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
from torch.utils import cpp_extension  # noqa: E402

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.NOTSET)


def why_no_cuda():
    """Why the CUDA kernel is not built, or None where it is."""
    wanted = os.environ.get("FORCE_CUDA")
    if wanted == "0":
        return "FORCE_CUDA=0"
    if wanted != "1" and not torch.cuda.is_available():
        return "no GPU here (FORCE_CUDA=1 builds it all the same)"
    reason = why_no_nvcc()
    if reason is not None and wanted == "1":
        sys.exit(f"softpool_det: FORCE_CUDA=1, but there is {reason}")
    return reason


def why_no_nvcc():
    """Why there is no nvcc that torch would build with, or None where there is one."""
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
    return None if has_compiler() else "no C++ compiler"


def has_compiler():
    if sys.platform != "win32":
        return shutil.which(os.environ.get("CXX", "c++").split()[0]) is not None
    from distutils.ccompiler import new_compiler  # setuptools' own, once setuptools is imported

    try:
        new_compiler().initialize()
    except PlatformError:
        return False
    return True


def extensions():
    compile_args = ["/O2"] if sys.platform == "win32" else ["-O3", "-fno-math-errno"]
    if sys.platform != "win32":
        # Lets the compiler vectorise selections; no code here looks at floating-point flags.
        compile_args.append("-fno-trapping-math")
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
    built = [
        cpp_extension.CppExtension(
            "softpool_det._C",
            ["csrc/softpool_det.cpp", "csrc/cpu/soft_pool.cpp"],
            extra_compile_args={"cxx": compile_args},
            **common,
        )
    ]
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
    cmdclass={"build_ext": cpp_extension.BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
