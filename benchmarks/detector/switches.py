"""What the config's switches for speed are worth: SoftPool's detector with each, and without."""

from __future__ import annotations

from dataclasses import asdict

from measuring.memory import peak_bytes
from measuring.timing import interleaved
from pooling.report import table

from detector.arms import SOFTPOOL, Arm, new_batch
from detector.measure import INFERENCE, MIN_ROUNDS, TRAINING

PLAIN = "none"
AMP = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE")
# bench_detector.py has the names, too.
CHANNELS_LAST = ("MODEL.CHANNELS_LAST", "True")
SWITCHES: dict[str, tuple[str, ...]] = {
    "channels_last": CHANNELS_LAST,
    "bfloat16": (*AMP, "bfloat16"),
    "float16": (*AMP, "float16"),
    "compile": ("MODEL.COMPILE_BACKBONE", "True"),
    "channels_last+bfloat16": (*CHANNELS_LAST, *AMP, "bfloat16"),
}


def measure_switches(
    model: str,
    switches: list[str],
    *,
    device: str,
    size: tuple[int, int],
    batch: int,
    seconds: float,
) -> list[dict]:
    """Time a detector with each switch, interleaved.

    Args:
        model: "retinanet" or "mask_rcnn", R50-FPN, with SoftPool.
        switches: keys of SWITCHES.
        device, size, batch: as in :func:`detector.arms.new_arms`.
        seconds: for all of them.

    Returns:
        Rows with "model", "what", "switch", the fields of `Times`, "peak_bytes", and "ratio",
        through the time without a switch. Evaluation is in float32 whatever SOLVER.AMP says, so
        those have no inference.
    """
    images = new_batch(size, batch)
    chosen = {PLAIN: (), **{name: SWITCHES[name] for name in switches}}
    arms = {
        name: Arm(model, SOFTPOOL, device, False, images, options)
        for name, options in chosen.items()
    }
    functions = {(TRAINING, name): arm.train for name, arm in arms.items()}
    functions |= {
        (INFERENCE, name): arm.infer for name, arm in arms.items() if arm.precision is None
    }
    times = interleaved(functions, seconds=seconds, min_rounds=MIN_ROUNDS)
    rows = []
    for what, switch in functions:
        ratio = times[what, switch].median_ms / times[what, PLAIN].median_ms
        peak = peak_bytes(functions[what, switch], device)
        row = {"model": model, "what": what, "switch": switch, "ratio": ratio, "peak_bytes": peak}
        rows.append({**row, **asdict(times[what, switch])})
    return rows


def switches_table(rows: list[dict]) -> str:
    """In Markdown."""
    headers = ["model", "what", "switch", "ms", "of the time without", "peak MiB"]
    cells = [
        [
            *(row["model"], row["what"], row["switch"], f"{row['median_ms']:.4g}"),
            *(f"{row['ratio']:.2f}", mebibytes(row["peak_bytes"])),
        ]
        for row in rows
    ]
    return table(headers, ["<", "<", "<", ">", ">", ">"], cells)


def mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"
