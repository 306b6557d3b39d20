#!/usr/bin/env bash
# The runs behind docs/findings.md, compared: benchmarks/findings.sh STUDY [seeds], where STUDY is
# digits_hard_retinanet, digits_hard_mask_rcnn or trees_retinanet. On two CPU cores a run takes 3 to 10
# minutes; finished runs are taken as they are. ARMS="max 3x3|SoftPool 2x2 paper" takes some arms only.
# Beside the report it leaves excerpt.json, which benchmarks/results/findings/ keeps.
set -euo pipefail
cd "$(dirname "$0")/.."
study=${1:?"digits_hard_retinanet, digits_hard_mask_rcnn or trees_retinanet"}
shift
seeds=("${@:-1 2 3}")
PYTHON=${PYTHON:-.venv/bin/python}
ARMS=${ARMS:-max 3x3|max 2x2|SoftPool 2x2 paper|SoftPool 2x2 exact|SoftPool 3x3 paper|SoftPool 3x3 exact}
hard=(DATASETS.TRAIN "('digit_scenes_hard_train',)" DATASETS.TEST "('digit_scenes_hard_val',)")
case $study in
  digits_hard_*) model=digits_${study#digits_hard_} overrides=("${hard[@]}") ;;
  trees_retinanet) model=$study overrides=() ;;
  *) echo "error: no study $study" >&2 && exit 1 ;;
esac
pool=MODEL.STEM_POOL
declare -A window=(
  [2x2]="$pool.KERNEL_SIZE 2 $pool.PADDING 0 $pool.CEIL_MODE True"
  [3x3]="$pool.KERNEL_SIZE 3 $pool.PADDING 1 $pool.CEIL_MODE False"
)
arms=()
IFS='|' read -ra names <<<"$ARMS"
for name in "${names[@]}"; do
  read -r kind size gradient <<<"$name"
  soft=configs/demo/${model}_softpool_R_18_FPN.yaml
  case $kind in
    max) arms+=(--arm "$name")
      if [[ $size == 3x3 ]]; then arms+=("configs/demo/${model}_R_18_FPN.yaml")
      else arms+=("$soft" "$pool.NAME" MaxPool2d); fi ;;
    # shellcheck disable=SC2206 # words on purpose
    SoftPool) arms+=(--arm "$name" "$soft" ${window[$size]} "$pool.GRADIENT" "$gradient") ;;
  esac
done
output=output/findings/$study
# shellcheck disable=SC2068
"$PYTHON" tools/compare.py --output "$output" --seeds ${seeds[@]} "${arms[@]}" -- "${overrides[@]}"
"$PYTHON" benchmarks/excerpt.py "$output/comparison.json" "$output/excerpt.json"
