"""All-reduce on a ring inside a machine and on rings between machines: bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Links between GPUs.

    Attributes:
        gpus: of one machine; machines are full where there is more than one.
        link: bytes a second that a GPU sends to a neighbour in its machine.
        network: bytes a second that a GPU sends to another machine; each GPU has its own adapter.
        link_delay, network_delay: seconds that a hop takes beyond its bytes.
    """

    gpus: int = 8
    link: float = 300e9
    network: float = 40e9
    link_delay: float = 3e-6
    network_delay: float = 10e-6


def bytes_sent(size: float, processes: int) -> float:
    """Bytes that each process sends in one all-reduce of `size` bytes: 2 (N - 1) / N of them.

    The same on one ring and in the three phases of :func:`all_reduce_seconds`.
    """
    return 2 * (processes - 1) / processes * size


def all_reduce_seconds(size: float, processes: int, cluster: Cluster) -> float:
    """Time of one all-reduce.

    On one machine it is a ring: N - 1 hops that add up and N - 1 that hand the sums on, each of
    size / N bytes. With M machines of g GPUs it has three phases: adding up within a machine
    (g - 1 hops of size / g), a ring between machines for each GPU's share of size / g
    (2 (M - 1) hops), and handing on within the machine.

    Args:
        size: bytes of the tensor on each process.
        processes: 1 or more; a multiple of `cluster.gpus` where it is more than that.

    Raises:
        ValueError: machines that are not full.
    """
    inside = min(processes, cluster.gpus)
    machines, rest = divmod(processes, inside)
    if rest:
        raise ValueError(f"{processes} GPUs are no whole machines of {cluster.gpus}")
    hops = 2 * (inside - 1)
    seconds = hops * (cluster.link_delay + size / inside / cluster.link)
    share = size / inside
    hops = 2 * (machines - 1)
    return seconds + hops * (cluster.network_delay + share / machines / cluster.network)
