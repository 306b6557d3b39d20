#!/usr/bin/env python3
"""Train two detectors the same way, or take trained ones, and print them side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from softpool_det.comparison import Arm, compare


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", required=True, metavar="CONFIG", help="YAML or LazyConfig")
    parser.add_argument("--candidate", required=True, metavar="CONFIG", help="YAML or LazyConfig")
    parser.add_argument("--names", nargs=2, default=("stock", "SoftPool"), metavar="NAME")
    parser.add_argument("--baseline-weights", metavar="FILE", help="evaluate this, do not train")
    parser.add_argument("--candidate-weights", metavar="FILE", help="evaluate this, do not train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="SEED")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--known-spread",
        type=Path,
        metavar="FILE",
        help="comparison.json of these configs over several seeds, quoted under the table",
    )
    parser.add_argument("opts", nargs="*", help="config overrides for both, behind --")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    configs = (args.baseline, args.candidate)
    weights = (args.baseline_weights, args.candidate_weights)
    baseline, candidate = (
        Arm(name, config, tuple(args.opts), weight)
        for name, config, weight in zip(args.names, configs, weights, strict=True)
    )
    program = Path(__file__).with_name("train_net.py")
    try:
        print(compare(baseline, candidate, args.seeds, args.output, program, args.known_spread))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"Written to {args.output}: comparison.json, comparison.md, pictures.png")


if __name__ == "__main__":
    main()
