"""One training step: buckets of gradients that are added up while the backward goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.cluster import Cluster, all_reduce_seconds

# DistributedDataParallel's own: a small first bucket, so that communication starts early.
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20


@dataclass(frozen=True)
class Gradient:
    """One parameter's gradient.

    Attributes:
        bytes: of it.
        ready: when the backward has it, as a part of the whole step, 0 to 1.
    """

    bytes: int
    ready: float


@dataclass(frozen=True)
class Profile:
    """What a step on one GPU consists of.

    Attributes:
        gradients: in the order in which the backward makes them.
        backward_end: when the backward is done, as a part of the step, 0 to 1; the optimizer's
            step is what follows.
    """

    gradients: tuple[Gradient, ...]
    backward_end: float

    @property
    def bytes(self) -> int:
        return sum(gradient.bytes for gradient in self.gradients)


def buckets(gradients: Sequence[Gradient]) -> list[Gradient]:
    """Join gradients as DistributedDataParallel does: a bucket is closed once it is full.

    A bucket is ready with the last of its gradients.
    """
    result: list[Gradient] = []
    size, ready, limit = 0, 0.0, FIRST_BUCKET
    for gradient in gradients:
        size, ready = size + gradient.bytes, max(ready, gradient.ready)
        if size >= limit:
            result.append(Gradient(size, ready))
            size, ready, limit = 0, 0.0, BUCKET
    return [*result, Gradient(size, ready)] if size else result


@dataclass(frozen=True)
class Step:
    """Seconds of a step, and those of them in which nothing but communication goes on."""

    seconds: float
    exposed: float


def simulate(
    profile: Profile, compute: float, processes: int, cluster: Cluster, scale: float = 1.0
) -> Step:
    """Walk through a step event by event: a bucket is ready, the one before it is through.

    Buckets go one after the other, as NCCL's stream does, each once it is ready on the slowest
    process; the optimizer waits for the last. Then the processes agree on whether to stop: 8 bytes.

    Args:
        profile: of one GPU's step.
        compute: seconds of the slowest GPU's step without any communication.
        processes: GPUs, 1 or more.
        cluster: the links between them.
        scale: bytes sent for each byte of gradient: 0.5 where they are sent in 16 bits.
    """
    if processes == 1:
        return Step(compute, 0.0)
    free = 0.0
    for bucket in buckets(profile.gradients):
        start = max(free, bucket.ready * compute)
        free = start + all_reduce_seconds(scale * bucket.bytes, processes, cluster)
    exposed = max(0.0, free - profile.backward_end * compute)
    exposed += all_reduce_seconds(8, processes, cluster)
    return Step(compute + exposed, exposed)
