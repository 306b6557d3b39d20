"""Rows for 1 to 1,024 GPUs, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scaling.cluster import Cluster, bytes_sent
from scaling.step import Gradient, Profile, simulate
from scaling.stragglers import slowest, spread

COUNTS = tuple(2**power for power in range(11))
# SOLVER.IMS_PER_BATCH times MAX_ITER, and INPUT.MIN_SIZE_TRAIN, of configs/Base-*.yaml.
SCHEDULE = 16 * 90_000
SIDES = (640, 672, 704, 736, 768, 800)


@dataclass(frozen=True)
class Inputs:
    """What a detector's rows are computed from.

    Attributes:
        profile: of a step.
        step_ms: mean of one GPU's steps without communication.
        sigma: of the logarithm of its step times, images of one size.
        worker_rate: images a second of one loader worker.
        images: of one GPU's batch.
    """

    profile: Profile
    step_ms: float
    sigma: float
    worker_rate: float
    images: int = 2


def inputs(
    model: str, step_ms: float, images: int, measured: dict, detector: dict, loader: dict
) -> Inputs:
    """Put a detector's inputs together.

    Args:
        model: "retinanet" or "mask_rcnn".
        step_ms, images: as in :class:`Inputs`.
        measured: of :func:`scaling.gradients.measure`.
        detector: a report of bench_detector.py, for the quartiles of its training step.
        loader: of :func:`scaling.loader.measure`.
    """
    gradients = tuple(Gradient(size, ready) for _, size, ready in measured["gradients"])
    step = next(
        row["SoftPool"]
        for row in detector["detectors"]
        if (row["model"], row["what"]) == (model, "training step")
    )
    sigma = spread(step["q1_ms"], step["q3_ms"])
    profile = Profile(gradients, measured["backward_end"])
    return Inputs(profile, step_ms, sigma, loader["median"], images)


def rows(
    given: Inputs, cluster: Cluster, steps: int, scale: float = 1.0, counts: Sequence[int] = COUNTS
) -> list[dict]:
    """Simulate training on each number of GPUs.

    Args:
        given: of the detector.
        cluster: the links between GPUs.
        steps: simulated for each number.
        scale: as in :func:`scaling.step.simulate`.
        counts: of GPUs.

    Returns:
        A dictionary each with "gpus", "batch" (images of all), "step_ms" and of it "waiting_ms"
        (for the slowest) and "exposed_ms" (for communication), "mib_sent" by each GPU,
        "workers" (a GPU), "images_s", "efficiency" (images a second and GPU, of one GPU alone) and
        "iterations" and "hours" of the 1x schedule's images.
    """
    result = []
    for count in counts:
        factors = slowest(count, SIDES, given.images, given.sigma, steps, seed=0)
        result.append(_row(given, count, cluster, factors if count > 1 else (1.0,), scale))
    return result


def alone(given: Inputs, cluster: Cluster, steps: int, scale: float, measured_on: int) -> Inputs:
    """Where `step_ms` was measured on several GPUs: the same with the step that one would take.

    Args:
        given, cluster, steps, scale: as in :func:`rows`.
        measured_on: how many GPUs there were.
    """
    result = given
    # Nearly all grows with the step, so that this settles at once.
    for _ in range(5):
        (row,) = rows(result, cluster, steps, scale, (measured_on,))
        result = replace(result, step_ms=result.step_ms * given.step_ms / row["step_ms"])
    return result


def _row(
    given: Inputs, count: int, cluster: Cluster, factors: Iterable[float], scale: float
) -> dict:
    alone_s = 1e-3 * given.step_ms
    steps = [simulate(given.profile, alone_s * f, count, cluster, scale) for f in factors]
    seconds = sum(step.seconds for step in steps) / len(steps)
    exposed = sum(step.exposed for step in steps) / len(steps)
    batch = given.images * count
    rate = batch / seconds
    return {
        "gpus": count,
        "batch": batch,
        "step_ms": 1e3 * seconds,
        "waiting_ms": 1e3 * (seconds - exposed - alone_s),
        "exposed_ms": 1e3 * exposed,
        "mib_sent": bytes_sent(scale * given.profile.bytes, count) / 2**20,
        "workers": math.ceil(rate / count / given.worker_rate),
        "images_s": rate,
        "efficiency": alone_s / seconds,
        "iterations": math.ceil(SCHEDULE / batch),
        "hours": SCHEDULE / rate / 3600,
    }


_HEADERS = ("GPUs", "batch", "step ms", "waiting", "exposed", "MiB sent", "workers")
_HEADERS += ("images/s", "efficiency", "iterations", "hours")


def markdown(found: Sequence[dict]) -> str:
    """A table of :func:`rows`."""
    lines = ["| " + " | ".join(_HEADERS) + " |", "|" + "---:|" * len(_HEADERS)]
    for row in found:
        cells = [f"{row['gpus']:,}", f"{row['batch']:,}", f"{row['step_ms']:.1f}"]
        cells += [f"{row[key]:.1f}" for key in ("waiting_ms", "exposed_ms", "mib_sent")]
        cells += [str(row["workers"]), f"{row['images_s']:,.0f}", f"{row['efficiency']:.2f}"]
        cells += [f"{row['iterations']:,}", f"{row['hours']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
