"""Random numbers that depend on where they are drawn, not on what was drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*numbers: int) -> int:
    """Return a seed for a torch generator that depends on all `numbers`, each 0 or more."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, of all devices, of this process.

    Args:
        seed: 0 to 2^64 - 1.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block the CPU's generators start from `seed`; after it they are as before it.

    Args:
        seed: 0 to 2^64 - 1.
    """
    python, numpy = random.getstate(), np.random.get_state()
    # devices=(): what is done to images is drawn on the CPU, and asking GPUs for theirs takes time.
    with torch.random.fork_rng(devices=()):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            # torch.manual_seed, for all devices, is far slower.
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
