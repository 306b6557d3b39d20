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
    if os.environ.get("FORCE_CUDA") == "1":
        if cpp_extension.CUDA_HOME is None:
            sys.exit(
                "softpool_det: FORCE_CUDA=1 needs nvcc and a torch built with CUDA; none found"
            )
        return None
    if not torch.cuda.is_available():
        return "no GPU here (FORCE_CUDA=1 builds it all the same)"
    if cpp_extension.CUDA_HOME is None:
        return "no nvcc here (put it on the PATH or set CUDA_HOME)"
    return None


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
        "depends": sorted(glob("csrc/**/*.h", recursive=True)),
    }
    if not has_compiler():
        print("softpool_det: no C++ compiler, operator not built: plain PyTorch will be used")
        return []
    built = [
        cpp_extension.CppExtension(
            "softpool_det._C",
            ["csrc/softpool_det.cpp", "csrc/cpu/soft_pool2d.cpp"],
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
        "softpool_det._C_cuda", ["csrc/cuda/soft_pool2d.cu"], **common
    )
    return [*built, cuda]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": cpp_extension.BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
