"""The figures of a comparison.json that are worth keeping: what benchmarks/results/findings/ holds.

python benchmarks/excerpt.py output/findings/X/comparison.json output/findings/X/excerpt.json

A whole comparison.json has every curve, error and image as well, some megabytes of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measuring.files import write_json

_KEPT = ("names", "seeds", "images", "objects", "resamples", "confidence", "runs", "softness")
_NAMES = ("baseline", "candidate")
_OF_A_DIFFERENCE = (*_NAMES, "metrics", "verdict", "decision", "margin", "power")
_OF_PROVENANCE = ("command", "versions", "hardware", "date", "git_commit")


def excerpt(data: dict) -> dict:
    """Metrics and differences of each task, Detectron2's own of each run, and where all is from."""
    tasks = {
        task: {
            "metrics": results["metrics"],
            "differences": [
                {key: difference[key] for key in _OF_A_DIFFERENCE if key in difference}
                for difference in results["differences"]
            ],
        }
        for task, results in data["tasks"].items()
    }
    kept = {key: data[key] for key in _KEPT if key in data}
    provenance = {key: data["provenance"][key] for key in _OF_PROVENANCE}
    return {**kept, "tasks": tasks, "provenance": provenance}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    write_json(args.output, excerpt(json.loads(args.comparison.read_text())))


if __name__ == "__main__":
    main()
