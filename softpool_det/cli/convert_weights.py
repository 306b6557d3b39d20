r"""Convert a ResNet's weights to the safetensors that Detectron2 configs load, or to torchvision's.

Sources: ResNets, ResNeXts and Wide-ResNets of torchvision (.pth) and timm (.safetensors or .pth),
the SoftPool authors' checkpoints, Detectron2's .pkl and .pth, and what this program wrote.
Backbones inside checkpoints of training programs, detectors and self-supervised methods, too.

Examples:
    softpool-convert-weights resnet50-11ad3fa6.pth weights/resnet50_torchvision.safetensors
    softpool-convert-weights --stem-pool softpool theirs.pth weights/resnet50_softpool.safetensors
    softpool-convert-weights --to torchvision weights/resnet50_softpool.safetensors r50.pth
"""

from __future__ import annotations

import argparse

from softpool_det.cli.program import new_parser, run_program
from softpool_det.weights.convert import describe, read_weights, write_weights
from softpool_det.weights.metadata import MAX_POOL, SOFT_POOL
from softpool_det.weights.origin import CONVENTIONS

STEM_POOLS = {"max": MAX_POOL, "softpool": SOFT_POOL}


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("source", help="a file, or an address such as detectron2://...")
    parser.add_argument("target", help="a .safetensors file; for torchvision also .pth")
    parser.add_argument_group("target").add_argument(
        "--to", choices=("detectron2", "torchvision"), default="detectron2", help="names of keys"
    )
    source = parser.add_argument_group("source")
    source.add_argument(
        "--stem-pool",
        choices=STEM_POOLS,
        help="what the weights were trained with: max 3x3, stride 2, padding 1, or SoftPool 2x2, "
        "stride 2 (default: max for published files of torchvision, timm and Detectron2)",
    )
    source.add_argument(
        "--convention",
        choices=CONVENTIONS,
        help="images and strides in training: torchvision (RGB; default for its keys), or those of "
        "Detectron2's MSRA or FAIR weights (BGR; default for Caffe2's keys)",
    )
    source.add_argument(
        "--architecture",
        metavar="NAME",
        help="such as resnet50, resnext50_32x4d, wide_resnet50_2 (default: found from shapes)",
    )
    source.add_argument(
        "--entry",
        metavar="NAME",
        help="which ResNet of a file that has several, such as model_ema or encoder_k (default: "
        "the trained one rather than its average; an unknown name lists them)",
    )
    source.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a .pkl that is not of Detectron2's model zoo",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    weights = read_weights(
        args.source,
        stem_pool=STEM_POOLS.get(args.stem_pool),
        convention=args.convention,
        architecture=args.architecture,
        trust_pickle=args.trust_pickle,
        entry=args.entry,
    )
    write_weights(args.target, weights, args.to)
    print(describe(weights, args.to))
    print(f"written: {args.target}")


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
