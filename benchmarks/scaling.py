"""Step time, traffic and images a second of training on 1 to 1,024 GPUs, on paper.

python benchmarks/scaling.py measure      # gradients and loader, on this machine; 2 minutes
python benchmarks/scaling.py table        # from what was measured and what is assumed

docs/scaling.md says what is assumed, and where from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring.arguments import positive
from measuring.files import write_json

RESULTS = Path(__file__).resolve().parent / "results"
MEASURED = RESULTS / "scaling" / "measured.json"
DETECTOR = RESULTS / "cpu" / "detector.json"
NAMES = {"retinanet": "RetinaNet R50-FPN", "mask_rcnn": "Mask R-CNN R50-FPN"}
# Of Detectron2's MODEL_ZOO.md, 8 V100 and 2 images a GPU: RetinaNet R50 1x, Mask R-CNN R50-FPN 3x.
STEP_MS = {"retinanet": 200.0, "mask_rcnn": 261.0}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure", help="gradients and loader, on this machine's CPU")
    measure.add_argument("--rounds", type=positive, default=5, help="(default: %(default)s)")
    measure.add_argument("--images", type=positive, default=100, help="(default: %(default)s)")
    measure.add_argument("--quality", type=positive, default=98, help="of JPEG (default: 98)")
    measure.add_argument("--json", type=Path, default=MEASURED, metavar="FILE")
    table = commands.add_parser("table", help="compute and print the tables")
    for model, value in STEP_MS.items():
        option = f"--{model.replace('_', '-')}-ms"
        text = "mean training step, an assumption (default: %(default)s)"
        table.add_argument(option, type=float, default=value, metavar="MS", help=text)
    table.add_argument(
        "--measured-on", type=positive, default=8, help="GPUs of those steps (default: 8)"
    )
    table.add_argument("--images", type=positive, default=2, help="a GPU (default: %(default)s)")
    table.add_argument("--bytes", type=int, choices=(4, 2), default=4, help="sent for a gradient")
    table.add_argument("--gpus", type=positive, default=8, help="of a machine (default: 8)")
    table.add_argument("--link", type=float, default=300, help="GB/s in a machine (default: 300)")
    table.add_argument(
        "--network", type=float, default=40, help="GB/s of a GPU between (default: 40)"
    )
    table.add_argument("--link-delay", type=float, default=3, help="us a hop (default: 3)")
    table.add_argument("--network-delay", type=float, default=10, help="us a hop (default: 10)")
    table.add_argument("--steps", type=positive, default=2000, help="simulated (default: 2000)")
    table.add_argument("--measured", type=Path, default=MEASURED, metavar="FILE")
    table.add_argument("--detector", type=Path, default=DETECTOR, metavar="FILE")
    table.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> None:
    from measuring.machine import description
    from scaling import gradients, loader

    result: dict = {"machine": description("cpu"), "gradients": {}, "loader": {}}
    for model in NAMES:
        result["gradients"][model] = gradients.measure(model, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        size = loader.write_images(Path(folder), args.images, args.quality)
        result["loader"]["bytes_of_a_file"] = size
        for model in NAMES:
            result["loader"][model] = loader.measure(model, Path(folder), args.rounds)
    for model, name in NAMES.items():
        found, rate = result["gradients"][model], result["loader"][model]
        print(f"{name}: {found['parameters']:,} trainable parameters")
        print(f"  backward ends at {found['backward_end']:.3f} of {found['step_ms']:.0f} ms")
        print(f"  loader: {rate['median']:.1f} images/s a worker, at best {rate['best']:.1f}")
    write_json(args.json, result)


def table(args: argparse.Namespace) -> None:
    from scaling.cluster import Cluster
    from scaling.table import alone, inputs, markdown, rows

    measured = json.loads(args.measured.read_text())
    detector = json.loads(args.detector.read_text())
    speeds = args.link * 1e9, args.network * 1e9
    cluster = Cluster(args.gpus, *speeds, args.link_delay * 1e-6, args.network_delay * 1e-6)
    result: dict = {"cluster": vars(cluster), "steps": args.steps, "models": {}}
    for model, name in NAMES.items():
        step_ms = getattr(args, f"{model}_ms")
        sources = measured["gradients"][model], detector, measured["loader"][model]
        given = inputs(model, step_ms, args.images, *sources)
        given = alone(given, cluster, args.steps, args.bytes / 4, args.measured_on)
        found = rows(given, cluster, args.steps, args.bytes / 4)
        size = given.profile.bytes * args.bytes // 4
        print(
            f"{name}: {size:,} bytes of gradients, {step_ms:g} ms a step on {args.measured_on}:\n"
        )
        print(f"{markdown(found)}\n")
        result["models"][model] = {"step_ms": step_ms, "bytes": size, "rows": found}
    if args.json:
        write_json(args.json, result)


if __name__ == "__main__":
    arguments = parsed()
    {"measure": measure, "table": table}[arguments.command](arguments)
