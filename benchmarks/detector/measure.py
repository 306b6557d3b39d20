"""Times and memory of a stock detector and its SoftPool twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from measuring.memory import peak_bytes
from measuring.timing import interleaved
from pooling.report import table

from detector.arms import SOFTPOOL, STOCK, new_arms, stem_functions

MIN_ROUNDS = 3
INFERENCE, TRAINING = "inference", "training step"


def measure(
    model: str,
    *,
    device: str,
    channels_last: bool,
    size: tuple[int, int],
    batch: int,
    seconds: float,
) -> list[dict]:
    """Compare the two arms of one model.

    Args:
        model: "retinanet" or "mask_rcnn".
        device, channels_last, size, batch: as in :func:`detector.arms.new_arms`.
        seconds: for the detectors; their stems get a tenth.

    Returns:
        Rows with "model", "what", for each arm the fields of `Times` and "peak_bytes", and "ratio"
        and "peak_ratio", SoftPool's through stock's.
    """
    arms = new_arms(model, device, channels_last, size, batch)
    whole: dict[tuple[str, str], Callable[[], object]] = {}
    for name, arm in arms.items():
        whole[INFERENCE, name] = arm.infer
        whole[TRAINING, name] = arm.train
    rows = []
    for functions, share in ((whole, 1.0), (stem_functions(arms), 0.1)):
        times = interleaved(functions, seconds=share * seconds, min_rounds=MIN_ROUNDS)
        for what in dict.fromkeys(what for what, _ in functions):
            row: dict = {"model": model, "what": what}
            for name in arms:
                peak = peak_bytes(functions[what, name], device)
                row[name] = {**asdict(times[what, name]), "peak_bytes": peak}
            row["ratio"] = row[SOFTPOOL]["median_ms"] / row[STOCK]["median_ms"]
            row["peak_ratio"] = row[SOFTPOOL]["peak_bytes"] / row[STOCK]["peak_bytes"]
            rows.append(row)
    return rows


def rows_table(rows: list[dict]) -> str:
    headers = ["model", "what", "stock ms", "SoftPool ms", "of stock"]
    headers += ["stock peak MiB", "SoftPool", "of stock"]
    cells = []
    for row in rows:
        peaks = [f"{row[name]['peak_bytes'] / 2**20:.1f}" for name in (STOCK, SOFTPOOL)]
        times = [_milliseconds(row[name]) for name in (STOCK, SOFTPOOL)]
        ratios = [f"{row['ratio']:.3f}", f"{row['peak_ratio']:.3f}"]
        cells.append([row["model"], row["what"], *times, ratios[0], *peaks, ratios[1]])
    return table(headers, ["<", "<", *">>>>>>"], cells)


def outcomes(rows: list[dict]) -> list[dict]:
    """The targets of whole detectors: not slower than stock, and with less memory."""
    result = []
    for row in rows:
        if row["what"] not in (INFERENCE, TRAINING):
            continue
        name = f"{row['model']} R50-FPN, {row['what']}"
        checks = (
            ("time of stock's", "<=", row["ratio"], row["ratio"] <= 1),
            ("peak memory of stock's", "<", row["peak_ratio"], row["peak_ratio"] < 1),
        )
        for text, sign, measured, met in checks:
            fixed = {"sign": sign, "bound": 1.0, "moonshot": False}
            result.append({"text": f"{name}: {text}", **fixed, "measured": measured, "met": met})
    return result


def _milliseconds(times: dict) -> str:
    spread = 50 * (times["q3_ms"] - times["q1_ms"]) / times["median_ms"]
    return f"{times['median_ms']:.4g} +-{spread:.0f}%"
