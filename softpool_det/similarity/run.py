"""The experiment: train, measure, and write the output folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from softpool_det.io.atomic import replacing_within, write_json
from softpool_det.similarity.measure import MeasuringTask, means, measure
from softpool_det.similarity.page import render
from softpool_det.similarity.photographs import Photograph, check_sizes, split
from softpool_det.similarity.pictures import Chosen, draw
from softpool_det.similarity.poolings import Pooling, State
from softpool_det.similarity.table import markdown
from softpool_det.similarity.tasks import Workers, workers
from softpool_det.similarity.training import Trained, TrainingTask, train, training_crops

# Images in pooled.png.
DRAWN = 2
_PACKAGES = ("softpool_det", "torch", "numpy", "scikit-image", "pillow")

States = Mapping[tuple[str, int], State]


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        poolings: rows of the table.
        kernel_sizes: sizes of the windows, which are the strides, too; 2 or more each.
        protocols: names of `metrics.PROTOCOLS`.
        seed: for draws, and for training.
        train_steps: of Adam, for each pooling with parameters; 0 measures their starts.
        dataset: the paper's data set that the images are of, or None.
    """

    poolings: Sequence[Pooling]
    kernel_sizes: Sequence[int]
    protocols: Sequence[str]
    seed: int = 0
    train_steps: int = 200
    dataset: str | None = None

    @property
    def trained(self) -> list[Pooling]:
        """The poolings to train before they are measured."""
        return [pooling for pooling in self.poolings if pooling.is_trained and self.train_steps]


def run_experiment(
    photographs: Sequence[Photograph],
    settings: Settings,
    output: Path,
    *,
    jobs: int = 1,
    pdf: bool = False,
) -> dict[str, Any]:
    """Measure the images and write similarity.json, .md, .html and pooled.png to `output`.

    Args:
        photographs: in the order by which they are split: where a pooling is trained, that is done
            on the first half, and the second is measured.
        jobs: processes. The results do not depend on it.
        pdf: write pooled.pdf, too.

    Returns:
        What similarity.json holds.

    Raises:
        FileNotFoundError, ImageError: an image cannot be read.
        ValueError: an image is too small, or there are too few to train on.
        OSError: the folder cannot be written.
    """
    sizes = check_sizes(photographs, settings.kernel_sizes)
    training, measured = split(photographs, bool(settings.trained))
    with workers(jobs) as processes:
        trained = _train(processes, training, sizes, settings) if training else {}
        states = {place: result.state for place, result in trained.items()}
        records = _measure(processes, measured, settings, states)
        result = {
            "settings": _described(settings),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in _PACKAGES},
            "images": {
                "training": [_entry(photograph, sizes) for photograph in training],
                "measured": [_entry(photograph, sizes) for photograph in measured],
            },
            "means": means(records),
            "training": [entry.record for entry in trained.values()],
            "results": records,
        }
        _write(output, result, measured[:DRAWN], settings, states, pdf)
    return result


def _train(
    processes: Workers,
    photographs: Sequence[Photograph],
    sizes: dict[str, tuple[int, int]],
    settings: Settings,
) -> dict[tuple[str, int], Trained]:
    crops = training_crops(photographs, sizes, settings.seed)
    tasks = [
        TrainingTask(pooling.key, kernel, settings.seed, settings.train_steps, crops)
        for pooling in settings.trained
        for kernel in settings.kernel_sizes
    ]
    results = processes.run(train, tasks, "training")
    return {(task.key, task.kernel): result for task, result in zip(tasks, results, strict=True)}


def _measure(
    processes: Workers, photographs: Sequence[Photograph], settings: Settings, states: States
) -> list[dict[str, Any]]:
    keys = [pooling.key for pooling in settings.poolings]
    tasks = [
        MeasuringTask(
            photograph, kernel, keys, settings.protocols, settings.seed, _of(states, kernel)
        )
        for kernel in settings.kernel_sizes
        for photograph in photographs
    ]
    return [record for records in processes.run(measure, tasks, "measuring") for record in records]


def _of(states: States, kernel: int) -> dict[str, State]:
    return {key: state for (key, size), state in states.items() if size == kernel}


def _write(
    output: Path,
    result: dict[str, Any],
    photographs: Sequence[Photograph],
    settings: Settings,
    states: States,
    pdf: bool,
) -> None:
    # The one in the middle: differences show, and details are still there.
    kernel = sorted(settings.kernel_sizes)[len(settings.kernel_sizes) // 2]
    keys = [pooling.key for pooling in settings.poolings]
    with replacing_within(output) as folder:
        chosen = Chosen(keys, kernel, settings.seed, _of(states, kernel))
        picture = folder / "pooled.png"
        draw(photographs, chosen, picture, folder / "pooled.pdf" if pdf else None)
        write_json(folder / "similarity.json", result)
        (folder / "similarity.md").write_text(markdown(result), encoding="utf-8")
        (folder / "similarity.html").write_text(render(result, picture), encoding="utf-8")


def _described(settings: Settings) -> dict[str, Any]:
    return {
        "poolings": [pooling.key for pooling in settings.poolings],
        "kernel_sizes": list(settings.kernel_sizes),
        "protocols": list(settings.protocols),
        "seed": settings.seed,
        "train_steps": settings.train_steps,
        "dataset": settings.dataset,
    }


def _entry(photograph: Photograph, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    width, height = sizes[photograph.name]
    return {"name": photograph.name, "width": width, "height": height}
