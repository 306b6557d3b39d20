#!/usr/bin/env bash
# Part 3 of the study in docs/findings.md: benchmarks/pretrained_study.sh [seeds]. Trains a digit
# classifier for each arm and seed, then the detectors of configs/studies/pretrained.yaml from them.
# What is finished is taken as it is; the same command continues what was interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra seeds <<<"${*:-1 2 3 4 5}"
PYTHON=${PYTHON:-.venv/bin/python}
pooling='{where: stem, pool: SoftPool2d, kernel_size: 3, padding: 1, ceil_mode: false'
pooling="replace=[$pooling, beta: 4.0, gradient: exact}]"

train() { # name, config, overrides
  for seed in "${seeds[@]}"; do
    OMP_NUM_THREADS=1 "$PYTHON" tools/train_classifier.py --resume "${@:2}" seed="$seed" \
      output="output/studies/classifiers/$1/seed_$seed"
  done
}
train max_3x3 configs/classification/digits.yaml
train softpool_2x2 configs/classification/digits_softpool.yaml
train softpool_3x3 configs/classification/digits.yaml "$pooling"
"$PYTHON" tools/study.py configs/studies/pretrained.yaml --seeds "${seeds[@]}" --workers 2
