"""Sizes of a detector's gradients, and when in a step each of them is ready."""

from __future__ import annotations

import statistics
import time

import torch
from detector.arms import SOFTPOOL, Arm, new_batch
from detectron2.utils.events import EventStorage

_SIZE = (480, 640)


def measure(model: str, rounds: int) -> dict:
    """Train R50-FPN with SoftPool for some steps on the CPU, one image each, and take times.

    Args:
        model: "retinanet" or "mask_rcnn".
        rounds: steps that count, after one that does not.

    Returns:
        "parameters" (trainable ones), "backward_end" (median part of the step, 0 to 1), "step_ms"
        (median) and "gradients": [name, bytes in float32, median part of the step at which it is
        ready], sorted by that part.
    """
    arm = Arm(model, SOFTPOOL, "cpu", True, new_batch(_SIZE, 1))
    arm.model.train()
    named = [(n, p) for n, p in arm.model.named_parameters() if p.requires_grad]
    ready: dict[str, list[float]] = {name: [] for name, _ in named}
    now: dict[str, float] = {}
    for name, parameter in named:
        parameter.register_post_accumulate_grad_hook(
            lambda _, name=name: now.update({name: time.perf_counter()})
        )
    ends, steps = [], []
    for number in range(rounds + 1):
        start, backward_end, end = _step(arm)
        if not number:
            continue
        steps.append(1e3 * (end - start))
        ends.append((backward_end - start) / (end - start))
        for name, _ in named:
            ready[name].append((now[name] - start) / (end - start))
    rows = [[n, 4 * p.numel(), round(statistics.median(ready[n]), 5)] for n, p in named]
    return {
        "parameters": sum(parameter.numel() for _, parameter in named),
        "backward_end": round(statistics.median(ends), 5),
        "step_ms": statistics.median(steps),
        "gradients": sorted(rows, key=lambda row: row[2]),
    }


def _step(arm: Arm) -> tuple[float, float, float]:
    """Seconds on the clock: start, end of the backward, end of the optimizer's step."""
    torch.manual_seed(0)
    start = time.perf_counter()
    with EventStorage():
        losses = arm.model(arm.batch)
    sum(losses.values()).backward()
    backward_end = time.perf_counter()
    arm.optimizer.step()
    end = time.perf_counter()
    arm.optimizer.zero_grad()
    return start, backward_end, end
