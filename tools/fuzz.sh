#!/usr/bin/env bash
# Fuzz the CPU operators: libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer chooses the
# bytes that tools/fuzz makes arguments of. Builds under build/fuzz; begins with what is in
# tools/fuzz/corpus.txt. The first finding ends it, fails, and lies in build/fuzz/crash-* or
# timeout-*, which can be given as an argument to run it again.
#
#   tools/fuzz.sh [file]
#
# PYTHON    interpreter with torch (default: python3)
# CLANGXX   Clang with libFuzzer (default: clang++-14; Debian: clang-14 and libclang-rt-14-dev)
# SECONDS_EACH  for each instruction set that this machine has (default: 600)
# KEEP      1: write the corpus, made small, to tools/fuzz/corpus.txt at the end
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "$(command -v "${PYTHON:-python3}")")
CLANGXX=${CLANGXX:-clang++-14}
SECONDS_EACH=${SECONDS_EACH:-600}
FOLDER=$PWD/build/fuzz
CORPUS=tools/fuzz/corpus.txt
command -v "$CLANGXX" >/dev/null || {
  echo "error: no $CLANGXX: install Debian's clang-14 and libclang-rt-14-dev, or set CLANGXX" >&2
  exit 1
}
mkdir -p "$FOLDER/corpus"
"$PYTHON" tools/fuzz/build.py --compiler "$CLANGXX" --output "$FOLDER/operator"
"$PYTHON" tools/fuzz/corpus.py unpack "$CORPUS" "$FOLDER/corpus"

# torch is not instrumented: its containers and its memory are not for these checks.
options=abort_on_error=1:detect_container_overflow=0:alloc_dealloc_mismatch=0
options+=:detect_odr_violation=0:detect_leaks=0:symbolize=1
export ASAN_OPTIONS=$options UBSAN_OPTIONS=print_stacktrace=1
flags=(-max_len=256 -timeout=20 -rss_limit_mb=4096 "-artifact_prefix=$FOLDER/")
capabilities=()
for capability in avx512 avx2 plain; do
  if [[ $capability == plain ]] || grep -qw "${capability/avx512/avx512bw}" /proc/cpuinfo; then
    capabilities+=("$capability")
  else
    echo "fuzz: no $capability here"
  fi
done
for capability in "${capabilities[@]}"; do
  export SOFTPOOL_CPU_CAPABILITY=$capability
  echo "fuzz: $capability kernels"
  if [[ $# -gt 0 ]]; then
    "$FOLDER/operator" "${flags[@]}" "$1"
  else
    "$FOLDER/operator" "${flags[@]}" -max_total_time="$SECONDS_EACH" -print_final_stats=1 \
      -verbosity=0 "$FOLDER/corpus" 2>"$FOLDER/$capability.log" || {
      tail -n 60 "$FOLDER/$capability.log"
      exit 1
    }
    grep -E "^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)" \
      "$FOLDER/$capability.log"
  fi
done
if [[ ${KEEP:-0} == 1 ]]; then
  rm -rf "$FOLDER/small" && mkdir "$FOLDER/small"
  for capability in "${capabilities[@]}"; do
    # What reaches the same code another number of times is left out.
    SOFTPOOL_CPU_CAPABILITY=$capability "$FOLDER/operator" "${flags[@]}" -verbosity=0 \
      -use_counters=0 -merge=1 "$FOLDER/small" "$FOLDER/corpus" 2>"$FOLDER/merge.log"
  done
  "$PYTHON" tools/fuzz/corpus.py pack "$FOLDER/small" "$CORPUS"
fi
