#!/usr/bin/env bash
# Check the CPU kernels on another processor: compile them for aarch64, where lanes are NEON's, with
# the program tools/neon/check.cpp, and run it under qemu's emulation. Values and gradients of random
# windows in every type and layout are compared with the definition; PyTorch is not needed. Builds
# under build/neon. The first argument is the number of cases, the second the first one's.
#
#   tools/neon.sh [cases [first]]
#
# CXX    cross compiler (default: aarch64-linux-gnu-g++; Debian: g++-aarch64-linux-gnu)
# QEMU   what runs its programs (default: qemu-aarch64 -L /usr/aarch64-linux-gnu; Debian: qemu-user)
#
# With CXX=g++ and QEMU=env it checks the kernels for any machine on this one.
set -euo pipefail
cd "$(dirname "$0")/.."
CXX=${CXX:-aarch64-linux-gnu-g++}
QEMU=${QEMU:-qemu-aarch64 -L /usr/aarch64-linux-gnu}
missing=
command -v "$CXX" >/dev/null || missing+="$CXX (Debian: g++-aarch64-linux-gnu) "
command -v "${QEMU%% *}" >/dev/null || missing+="${QEMU%% *} (Debian: qemu-user) "
[[ -z $missing ]] || {
  echo "error: not here: ${missing}" >&2
  exit 1
}
FOLDER=build/neon/$(basename "$CXX")
mkdir -p "$FOLDER"
# As in setup.py, for the unit that has no instruction set of its own.
flags="-std=c++17 -O2 -g0 -Wall -fno-math-errno -fno-trapping-math -ffp-contract=fast"
make -s -j2 -f - "$FOLDER/check" <<RULES
$FOLDER/check: $FOLDER/csrc/cpu/kernels_plain.o $FOLDER/tools/neon/check.o
	$CXX \$^ -o \$@
$FOLDER/%.o: %.cpp
	mkdir -p \$(@D)
	$CXX $flags -MMD -MP -c \$< -o \$@
-include $FOLDER/csrc/cpu/kernels_plain.d $FOLDER/tools/neon/check.d
RULES
# Unquoted: it may have arguments.
$QEMU "$FOLDER/check" "$@"
