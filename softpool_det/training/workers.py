"""The processes that read images, when the run gets a signal."""

from __future__ import annotations

import os
import signal
import threading
import time

from torch.utils.data import DataLoader, IterableDataset

# Within these the run saves and ends (docs/reliability.md); a worker does not stay longer.
GRACE_SECONDS = 30


def outlive_signals(_worker: int) -> None:
    """Ignore SIGINT in a DataLoader's worker, and SIGTERM unless the loader itself sent it.

    A terminal sends SIGINT to every process, torchrun, Slurm and systemd SIGTERM to every process
    of a job, and a worker of torch's ends at once. The step that is running needs its images, or
    nothing would be saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Blocked in all threads, for the one that waits for it and learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(loader: int) -> None:
    sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
    end = time.monotonic() + GRACE_SECONDS
    while sender != loader:
        left = max(end - time.monotonic(), 0)
        again = signal.sigtimedwait({signal.SIGTERM}, left)
        if again is None:
            os._exit(1)
        sender = again.si_pid
    # As torch's own handler does.
    os._exit(0)


def with_lasting_workers(loader: DataLoader, persistent: bool = False) -> DataLoader:
    """Return the loader with workers that outlive SIGTERM and SIGINT.

    Args:
        loader: of batches of `batch_size`, by a sampler.
        persistent: keep the workers from one iteration over the loader to the next.
    """
    if isinstance(loader.dataset, IterableDataset):  # has no sampler that another could take
        return loader
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        sampler=loader.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        drop_last=loader.drop_last,
        pin_memory=loader.pin_memory,
        worker_init_fn=outlive_signals,
        persistent_workers=persistent and loader.num_workers > 0,
    )
