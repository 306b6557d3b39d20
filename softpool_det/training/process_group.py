"""Processes as torchrun starts them; alone without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm


def _fresh_store() -> dict[str, Any]:
    """Where the processes of this attempt find each other; nothing where torch's own will do.

    torchrun keeps one store for all attempts, and torch 2.11 looks there under the same names: the
    processes of a second attempt would wait for the addresses of dead ones.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = f"softpool_det/attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    return {
        "store": dist.PrefixStore(attempt, dist.TCPStore(address, port, is_master=False)),
        "rank": int(os.environ["RANK"]),
        "world_size": int(os.environ["WORLD_SIZE"]),
    }


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Be one of torchrun's processes (NCCL between GPUs, Gloo between CPUs), or the only one.

    Args:
        device: "cuda", "cpu", ... of the config.

    Yields:
        This process's own device: under torchrun each process on CUDA has the GPU of its rank.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if is_cuda else "gloo", **_fresh_store())
    # What Detectron2's launch does beside it.
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        yield device
    finally:
        dist.destroy_process_group()
