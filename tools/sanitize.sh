#!/usr/bin/env bash
# Build the CPU operator with AddressSanitizer and UndefinedBehaviorSanitizer, under build/sanitize,
# and run the operator's tests with it: all of them with the widest instruction set, those of values
# and gradients with the others that this machine has. The first report ends the tests and fails.
#
#   tools/sanitize.sh [pytest's arguments]
#
# PYTHON             interpreter with torch, numpy, pytest and hypothesis (default: python3)
# CXX                a GCC (default: c++); Clang's runtimes are not looked for
# SOFTPOOL_EXAMPLES  random cases (default here: 25, instrumented code is slow)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "$(command -v "${PYTHON:-python3}")")
export SOFTPOOL_EXAMPLES=${SOFTPOOL_EXAMPLES:-25} SOFTPOOL_SANITIZE=1 FORCE_CUDA=0
FOLDER=$PWD/build/sanitize

# Python itself is not instrumented, so the runtimes have to be there before it starts. libstdc++
# too: AddressSanitizer looks for the function that throws when it starts, and dies at the first
# exception where it found none.
runtimes=
for library in libasan.so libubsan.so libstdc++.so.6; do
  path=$(${CXX:-c++} -print-file-name=$library)
  [[ $path == /* ]] || {
    echo "error: ${CXX:-c++} has no $library: set CXX to a GCC with its sanitizers" >&2
    exit 1
  }
  runtimes+="$path "
done

# The library of an earlier run would be taken for this one's.
rm -rf "$FOLDER/lib"
mkdir -p "$FOLDER"
"$PYTHON" setup.py build --build-base "$FOLDER" --build-lib "$FOLDER/lib" >"$FOLDER/build.log" 2>&1 || {
  cat "$FOLDER/build.log"
  exit 1
}

# Leaks are not looked for: Python and torch leave thousands of objects to the end of the process,
# and torch, which is not instrumented, holds the operator's tensors. With abort Python says which
# test it was.
options=abort_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=$options:detect_leaks=0 UBSAN_OPTIONS=$options
# From tests/, so that the sources in the working tree are not what is imported. Without malloc,
# objects of Python's lie in pools whose ends AddressSanitizer does not know.
cd tests
run() {
  LD_PRELOAD=$runtimes PYTHONPATH=$FOLDER/lib PYTHONMALLOC=malloc "$PYTHON" "$@"
}
# An instruction set that does not exist is refused with those that do, the widest first.
read -ra capabilities < <(SOFTPOOL_CPU_CAPABILITY=unknown run -c "
import re
import torch
from softpool_det import _C
assert _C.__file__.startswith('$FOLDER/lib'), _C.__file__
try:
    torch.ops.softpool_det.soft_pool(torch.zeros(1, 1, 2, 2), [2, 2], [2, 2], [0, 0], [1, 1], False)
except RuntimeError as error:
    print(*re.search(r'have \((.*?)\)', str(error))[1].split(', '))")

# pytest would keep what a dying process writes, the report, were it to capture more than sys.stderr;
# the test that starts pytest for each instruction set would, too. The reference is plain PyTorch,
# compilers trace the operators without running more of them, and the emulator of the CUDA kernels is
# not built here: tests/ops/test_emulation.py has a slow test that builds it with the sanitizers.
skipped="not reference and not compile and not every_instruction_set and not emulat and not geometry"
for capability in "${capabilities[@]}"; do
  tests=(ops/test_soft_pool.py ops/test_affine_relu.py)
  [[ $capability != "${capabilities[0]}" ]] || tests=(ops)
  echo "sanitizers: $capability kernels"
  SOFTPOOL_CPU_CAPABILITY=$capability run -m pytest -p no:cacheprovider --capture=sys \
    --confcutdir ops -k "$skipped" "${tests[@]}" "$@"
done
