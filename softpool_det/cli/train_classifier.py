"""Train or evaluate Detectron2's ResNet as a classifier; detectors start from its weights.

    softpool-train-classifier --config-file configs/classification/digits_softpool_R_18.yaml
    torchrun --nproc-per-node 8 -m softpool_det.cli.train_classifier \\
        --config-file configs/classification/imagenet_paper_softpool_R_18.yaml
    softpool-train-classifier --eval-only --config-file ... MODEL.WEIGHTS FILE.safetensors
"""

from __future__ import annotations

import argparse

from softpool_det.classification import run
from softpool_det.cli.program import run_program


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--resume", action="store_true", help="continue a run in OUTPUT_DIR, if there is one"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides at the end"
    )
    return parser.parse_args()


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
