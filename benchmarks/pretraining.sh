#!/usr/bin/env bash
# The runs behind docs/pretraining.md: benchmarks/pretraining.sh [seeds]. Trains ResNet-18 as a
# classifier in each arm with each seed, prints accuracies with McNemar's tests, evaluates the first
# arm's weights with SoftPool put in, and trains the demo's RetinaNet in each arm from scratch and
# from the weights of the first seed. On two CPU cores a classifier takes a few minutes, a detector 3;
# finished runs are taken as they are.
#
# DATA        digits (default) or fashion_mnist
# ARMS        default: max 3x3|SoftPool 2x2 paper; also max 2x2, SoftPool 2x2 exact, ...
# OUTPUT      folder (default: output/pretraining/$DATA)
# CLASSIFIER  overrides of the classifiers' config, DETECTOR of the detectors', for trying this out
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra seeds <<<"${*:-1 2 3}"
PYTHON=${PYTHON:-.venv/bin/python}
DATA=${DATA:-digits}
ARMS=${ARMS:-max 3x3|SoftPool 2x2 paper}
OUTPUT=${OUTPUT:-output/pretraining/$DATA}
read -ra classifier <<<"${CLASSIFIER:-}"
read -ra detector <<<"${DETECTOR:-}"
[ -f "configs/classification/${DATA}_R_18.yaml" ] || {
  echo "error: DATA is digits or fashion_mnist, not $DATA" >&2
  exit 1
}
pool=MODEL.STEM_POOL
declare -A window=(
  [2x2]="$pool.KERNEL_SIZE 2 $pool.PADDING 0 $pool.CEIL_MODE True"
  [3x3]="$pool.KERNEL_SIZE 3 $pool.PADDING 1 $pool.CEIL_MODE False"
)
# pooling ARM STOCK SOFT: sets `config` and `overrides` to the arm's, given the stock config and its twin.
pooling() {
  local kind size gradient
  read -r kind size gradient <<<"$1"
  config=$3 overrides=()
  case $kind:$size in
    max:3x3) config=$2 ;;
    max:2x2) overrides=("$pool.NAME" MaxPool2d) ;;
    # shellcheck disable=SC2206 # words on purpose
    SoftPool:?x?) overrides=(${window[$size]} "$pool.GRADIENT" "$gradient") ;;
    *) echo "error: no arm $1" >&2 && exit 1 ;;
  esac
}
IFS='|' read -ra arms <<<"$ARMS"
stock=configs/classification/${DATA}_R_18.yaml soft=configs/classification/${DATA}_softpool_R_18.yaml
demo=configs/demo/digits_retinanet

compared=()
for arm in "${arms[@]}"; do
  pooling "$arm" "$stock" "$soft"
  compared+=(--arm "$arm")
  for seed in "${seeds[@]}"; do
    folder=$OUTPUT/classifiers/$arm/seed_$seed
    echo "== classifier: $arm, seed $seed" >&2
    "$PYTHON" tools/train_classifier.py --resume --config-file "$config" "${overrides[@]}" \
      "${classifier[@]}" SEED "$seed" OUTPUT_DIR "$folder" >&2
    compared+=("$folder/predictions.npz")
  done
done
"$PYTHON" tools/evaluate_classifiers.py compare "${compared[@]}" --json "$OUTPUT/classifiers.json" |
  tee "$OUTPUT/classifiers.md"

if [ "${arms[0]}" = "max 3x3" ]; then
  for seed in "${seeds[@]}"; do
    printf '\nWeights of max 3x3, seed %s, with SoftPool put in:\n\n' "$seed"
    "$PYTHON" tools/evaluate_classifiers.py swap --trained "$stock" --swapped "$soft" \
      --weights "$OUTPUT/classifiers/max 3x3/seed_$seed/model_final.safetensors" \
      --output "$OUTPUT/swap/seed_$seed" "${classifier[@]}"
  done | tee "$OUTPUT/swap.md"
fi

detectors=()
for arm in "${arms[@]}"; do
  pooling "$arm" "${demo}_R_18_FPN.yaml" "${demo}_softpool_R_18_FPN.yaml"
  weights=$OUTPUT/classifiers/$arm/seed_${seeds[0]}/model_final.safetensors
  detectors+=(--arm "$arm, from scratch" "$config" "${overrides[@]}")
  detectors+=(--arm "$arm, pretrained" "$config" "${overrides[@]}" MODEL.WEIGHTS "$weights")
done
"$PYTHON" tools/compare.py --output "$OUTPUT/detectors" --seeds "${seeds[@]}" "${detectors[@]}" -- \
  "${detector[@]}"

# The pretrained detectors with each other: the first arm's is the baseline.
inputs=() pretrained=$OUTPUT/pretrained
mkdir -p "$pretrained"
for number in "${!arms[@]}"; do
  files=()
  for seed in "${seeds[@]}"; do
    # Without the comma, which joins files.
    files+=("$pretrained/${number}_$seed.json")
    cp "$OUTPUT/detectors/${arms[number]}, pretrained/seed_$seed/inference/coco_instances_results.json" \
      "${files[-1]}"
  done
  inputs+=("${arms[number]}, pretrained=$(IFS=,; echo "${files[*]}")")
done
"$PYTHON" tools/compare.py --output "$pretrained" \
  --gt "${DETECTRON2_DATASETS:-datasets}/digit_scenes_val/annotations.json" "${inputs[@]}"
