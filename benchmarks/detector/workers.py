"""What it is worth to keep an evaluation's workers: its images read with each setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from measuring.timing import interleaved

from detector.arms import CONFIGS
from detector.measure import MIN_ROUNDS
from softpool_det.config import load_config
from softpool_det.datasets import ensure_dataset, register_datasets
from softpool_det.training import Trainer

CONFIG = CONFIGS / "demo" / "digits_retinanet_softpool_R_18_FPN.yaml"
DATASET = "digit_scenes_val"
PLAIN, PERSISTENT = "none", "persistent_workers"
READING = "images of an evaluation"


def measure_workers(num_workers: int, seconds: float) -> list[dict]:
    """Time the demo's evaluation loader from its making to its last image, without a model.

    Args:
        num_workers: 1 or more.
        seconds: for both settings.

    Returns:
        Rows as those of :func:`detector.switches.measure_switches`, without memory.
    """
    register_datasets()
    ensure_dataset(DATASET)

    def reader(persistent: bool) -> Callable[[], int]:
        options = ["DATALOADER.PERSISTENT_WORKERS", str(persistent)]
        options += ["DATALOADER.NUM_WORKERS", str(num_workers)]
        cfg = load_config(str(CONFIG), options)
        return lambda: sum(len(batch) for batch in Trainer.build_test_loader(cfg, DATASET))

    functions = {PLAIN: reader(False), PERSISTENT: reader(True)}
    times = interleaved(functions, seconds=seconds, min_rounds=MIN_ROUNDS)
    return [
        {
            **{"model": f"{num_workers} workers", "what": READING, "switch": name},
            "ratio": times[name].median_ms / times[PLAIN].median_ms,
            "peak_bytes": None,
            **asdict(times[name]),
        }
        for name in functions
    ]
