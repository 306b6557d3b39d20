#!/usr/bin/env bash
# The runs behind docs/pretraining.md: benchmarks/pretraining.sh [seeds]. Trains ResNet-18 as a
# classifier with max pooling and with SoftPool with each seed, prints the paper's Tables 2 and 4 of
# them, and trains the demo's RetinaNet in each arm from scratch and from the weights of the first
# seed. On two CPU cores a classifier takes a few minutes, a detector 3; finished runs are taken as
# they are.
#
# DATA        digits (default) or fashion_mnist
# OUTPUT      folder (default: output/pretraining/$DATA)
# CLASSIFIER  overrides of the classifiers' config, DETECTOR of the detectors', for trying this out
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra seeds <<<"${*:-1 2 3}"
PYTHON=${PYTHON:-.venv/bin/python}
DATA=${DATA:-digits}
OUTPUT=${OUTPUT:-output/pretraining/$DATA}
read -ra classifier <<<"${CLASSIFIER:-}"
read -ra detector <<<"${DETECTOR:-}"
network=detectron2/resnet18
demo=configs/demo/digits_retinanet

for table in 2 4; do
  "$PYTHON" tools/tables.py $table --data "$DATA" --networks $network --seeds "${seeds[@]}" \
    --output "$OUTPUT" ${classifier[@]+--set "${classifier[@]}"}
done

arms=()
for arm in Original SoftPool; do
  config=${demo}_R_18_FPN.yaml
  [ $arm = Original ] || config=${demo}_softpool_R_18_FPN.yaml
  weights=$OUTPUT/$DATA/$network/$arm/seed_${seeds[0]}/model_final.safetensors
  arms+=(--arm "$arm, from scratch" "$config")
  arms+=(--arm "$arm, pretrained" "$config" MODEL.WEIGHTS "$weights")
done
"$PYTHON" tools/compare.py --output "$OUTPUT/detectors" --seeds "${seeds[@]}" "${arms[@]}" -- \
  "${detector[@]}"

# The pretrained detectors with each other.
inputs=() pretrained=$OUTPUT/pretrained
mkdir -p "$pretrained"
for arm in Original SoftPool; do
  files=()
  for seed in "${seeds[@]}"; do
    # Without the comma, which joins files.
    files+=("$pretrained/${arm}_$seed.json")
    cp "$OUTPUT/detectors/$arm, pretrained/seed_$seed/inference/coco_instances_results.json" \
      "${files[-1]}"
  done
  inputs+=("$arm, pretrained=$(IFS=,; echo "${files[*]}")")
done
"$PYTHON" tools/compare.py --output "$pretrained" \
  --gt "${DETECTRON2_DATASETS:-datasets}/digit_scenes_val/annotations.json" "${inputs[@]}"
