"""The processes that read images, when the run is told to end."""

from __future__ import annotations

import signal

from torch.utils.data import DataLoader

# Within these the run saves and ends (docs/reliability.md); a worker does not stay longer.
GRACE_SECONDS = 30


def outlive_sigterm(_worker: int) -> None:
    """A DataLoader's `worker_init_fn`: SIGTERM ends the worker only after `GRACE_SECONDS`.

    Slurm and systemd send it to every process of a job. The step that is running needs its images,
    or nothing would be saved; at the run's end the loader ends its workers itself.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))


def with_lasting_workers(loader: DataLoader, persistent: bool = False) -> DataLoader:
    """The same loader with such workers.

    Args:
        loader: of batches of `batch_size`, by a sampler.
        persistent: keep the workers from one iteration over the loader to the next.
    """
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        sampler=loader.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=outlive_sigterm,
        persistent_workers=persistent and loader.num_workers > 0,
    )
