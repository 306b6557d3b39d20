"""Step time, traffic and images a second of training on 1 to 1,024 GPUs, on paper.

docs/scaling.md has the tables and says where each figure comes from.
"""

from __future__ import annotations

import json
import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring.arguments import positive

RESULTS = Path(__file__).resolve().parent / "results"
# Milliseconds a step in Detectron2's MODEL_ZOO.md: RetinaNet R50 1x, Mask R-CNN R50-FPN 3x, both
# on 8 V100 with 2 images each.
MODELS = {"retinanet": ("RetinaNet R50-FPN", 200), "mask_rcnn": ("Mask R-CNN R50-FPN", 261)}
GIVEN_ON = 8
COUNTS = (1, 8, 16, 64, 256, 1024)
# SOLVER.IMS_PER_BATCH times MAX_ITER, and INPUT.MIN_SIZE_TRAIN, of configs/Base-*.yaml.
SCHEDULE = 16 * 90_000
SIDES = (640, 672, 704, 736, 768, 800)
# DistributedDataParallel's own: a small first bucket, so that communication starts early.
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
HEADERS = ("GPUs", "batch", "step ms", "waiting", "exposed", "MiB sent", "workers")
HEADERS += ("images/s", "efficiency", "iterations", "hours")


@dataclass(frozen=True)
class Detector:
    """What was measured of a detector; `ready` and `backward_end` are parts of a step, 0 to 1."""

    buckets: list[tuple[float, float]]  # bytes to send, ready
    backward_end: float
    sigma: float  # of the logarithm of step times with images of one size
    worker_rate: float  # images a second


def all_reduce_seconds(size: float, processes: int, links: Namespace) -> float:
    """Time to add up `size` bytes of each process: on a ring, 2 (N - 1) hops of size / N bytes.

    On several machines: adding up within each, a ring between them for each GPU's share, and
    handing on within each. `links` has the options of the command line.
    """
    inside = min(processes, links.gpus)
    machines, share = processes // inside, size / inside
    hop = 1e-6 * links.link_delay + share / (1e9 * links.link)
    between = 1e-6 * links.network_delay + share / machines / (1e9 * links.network)
    return 2 * (inside - 1) * hop + 2 * (machines - 1) * between


def buckets(gradients: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Join (bytes, ready) as DistributedDataParallel does; a bucket is ready with its last one."""
    result = []
    size, ready, limit = 0, 0.0, FIRST_BUCKET
    for more, at in gradients:
        size, ready = size + more, max(ready, at)
        if size >= limit:
            result.append((size, ready))
            size, ready, limit = 0, 0.0, BUCKET
    return [*result, (size, ready)] if size else result


def exposed(detector: Detector, compute: np.ndarray, processes: int, links: Namespace):
    """Seconds of communication that the backward does not hide, for steps of `compute` seconds.

    A bucket goes once it is ready and the one before it is through. After the step the processes
    agree on whether to stop: 8 bytes.
    """
    free = np.zeros_like(compute)
    for size, ready in detector.buckets:
        free = np.maximum(free, ready * compute) + all_reduce_seconds(size, processes, links)
    late = np.maximum(0.0, free - detector.backward_end * compute)
    return late + all_reduce_seconds(8, processes, links)


def slowest(processes: int, images: int, sigma: float, steps: int = 2000) -> np.ndarray:
    """Time of the slowest process in each of `steps` steps, relative to a mean process's.

    A process's time is its batch's pixels, all images padded to the largest, times noise of mean 1.
    """
    generator = np.random.default_rng(0)
    areas = np.array(SIDES, dtype=float) ** 2
    # The largest of the images is at most the k-th size with chance (k / n)^images.
    chances = np.diff((np.arange(len(areas) + 1) / len(areas)) ** images)
    areas /= (areas * chances).sum()
    found = np.zeros(steps)
    # Few processes are the first of many, so that many are never faster than few.
    for _ in range(processes):
        noise = np.exp(sigma * generator.standard_normal(steps) - sigma**2 / 2)
        found = np.maximum(found, generator.choice(areas, size=steps, p=chances) * noise)
    return found


def load(model: str, scale: float) -> Detector:
    """Read what was measured; each byte of gradient is sent as `scale` bytes."""
    measured = json.loads((RESULTS / "scaling" / "measured.json").read_text())
    timed = json.loads((RESULTS / "cpu" / "detector.json").read_text())["detectors"]
    (row,) = [r for r in timed if (r["model"], r["what"]) == (model, "training step")]
    found = measured["gradients"][model]
    joined = buckets([(size, ready) for _, size, ready in found["gradients"]])
    # Quartiles of a normal distribution are 1.349 standard deviations apart.
    sigma = math.log(row["SoftPool"]["q3_ms"] / row["SoftPool"]["q1_ms"]) / 1.349
    sent = [(scale * size, ready) for size, ready in joined]
    return Detector(sent, found["backward_end"], sigma, measured["loader"][model]["median"])


def step(alone: float, factors: np.ndarray, count: int, detector: Detector, links: Namespace):
    """Mean seconds of a step, and those of them that are exposed communication."""
    late = exposed(detector, alone * factors, count, links).mean()
    return alone * factors.mean() + late, late


def line(count: int, alone: float, seconds: float, late: float, detector: Detector, images: int):
    """One row of Markdown, where one GPU alone takes `alone` seconds."""
    batch, sent = images * count, 2 * (count - 1) / count * sum(s for s, _ in detector.buckets)
    waiting, rate = seconds - late - alone, batch / seconds
    cells = [f"{count:,}", f"{batch:,}", f"{1e3 * seconds:.1f}", f"{1e3 * waiting:.1f}"]
    cells += [f"{1e3 * late:.1f}", f"{sent / 2**20:.1f}"]
    cells += [str(math.ceil(rate / count / detector.worker_rate)), f"{rate:,.0f}"]
    cells += [f"{alone / seconds:.2f}", f"{math.ceil(SCHEDULE / batch):,}"]
    return f"| {' | '.join(cells)} | {SCHEDULE / rate / 3600:.2f} |"


def table(given: float, detector: Detector, args: Namespace) -> str:
    """Rows for all COUNTS, where a step on GIVEN_ON GPUs takes `given` seconds."""
    factors = {n: slowest(n, args.images, detector.sigma) for n in COUNTS}
    factors[1] = np.ones(1)
    alone = given
    for _ in range(5):  # nearly all of a step grows with `alone`, so that this settles at once
        alone *= given / step(alone, factors[GIVEN_ON], GIVEN_ON, detector, args)[0]
    lines = [f"| {' | '.join(HEADERS)} |", f"|{'---:|' * len(HEADERS)}"]
    for n in COUNTS:
        found = step(alone, factors[n], n, detector, args)
        lines.append(line(n, alone, *found, detector, args.images))
    return "\n".join(lines)


def parsed() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    for model, (_, ms) in MODELS.items():
        add(f"--{model.replace('_', '-')}-ms", type=float, default=ms, help="a step on 8 GPUs")
    add("--images", type=positive, default=2, help="of a GPU")
    add("--bytes", type=int, default=4, choices=(4, 2), help="sent of a gradient")
    add("--gpus", type=int, default=8, choices=(1, 2, 4, 8, 16), help="of a machine")
    add("--link", type=float, default=300, help="GB/s of a GPU in a machine")
    add("--network", type=float, default=40, help="GB/s of a GPU between machines")
    add("--link-delay", type=float, default=3, help="us a hop")
    add("--network-delay", type=float, default=10, help="us a hop")
    return parser.parse_args()


if __name__ == "__main__":
    args = parsed()
    for model, (name, _) in MODELS.items():
        detector, step_ms = load(model, args.bytes / 4), getattr(args, f"{model}_ms")
        size = sum(size for size, _ in detector.buckets)
        print(f"{name}: {size:,.0f} bytes of gradients, {step_ms:g} ms a step on {GIVEN_ON}:\n")
        print(f"{table(step_ms / 1e3, detector, args)}\n")
