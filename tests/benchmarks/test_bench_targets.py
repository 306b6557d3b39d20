"""The targets of the pooling benchmark."""

from __future__ import annotations

import pytest
from pooling import cases, targets
from pooling.cases import WINDOW_2, Case
from pooling.measure import measure
from pooling.names import (
    BETA,
    BOTH,
    FORWARD,
    LEARNED,
    MAX,
    SOFT,
)
from pooling.report import targets_table, verdicts

SHAPE = (1, 4, 12, 10)


def rows_of(device: str, monkeypatch) -> list[dict]:
    """What a run of the targets' cases gives, on a small shape and one device."""
    for name, shape in (("DETECTION", SHAPE), ("LEVEL", SHAPE), ("VIDEO", (1, 4, 4, 6, 6))):
        monkeypatch.setattr(cases, name, shape)
    setting = targets.COUNTING_SETTING[device]
    return [
        {**case.as_json(), "setting": setting, "isa": None, **row}
        for case in [
            *cases.main_cases(device),
            *cases.fused_cases(device, SHAPE),
            *cases.window_cases(),
        ]
        for row in measure(case, "cpu", seconds=0, min_rounds=1, memory=True)
    ]


@pytest.mark.slow
def test_every_target_is_measured(monkeypatch):
    rows = rows_of("cpu", monkeypatch)
    found = targets.outcomes(rows, "cpu")
    assert len(found) == 4 + 8 + 8 + 40 + 2 + 6 + 2 + 8
    assert all(outcome["measured"] is not None for outcome in found)
    assert all(outcome["met"] is not None for outcome in found)
    assert all(outcome["measured_default"] is None for outcome in found)
    saved = next(outcome for outcome in found if "saved" in outcome["text"])
    assert (saved["measured"], saved["met"]) == (0, True)
    printed = targets_table(found, ["kept", "default"])
    assert all(len(line) <= 120 for line in printed.splitlines())
    found = targets.outcomes(rows, "cpu", "avx2")
    assert len(found) == 4 + 8 + 40 + 2 + 6 + 2 + 8
    assert [outcome["bound"] for outcome in found[:4]] == [1.5, 2.0, 1.5, 2.0]
    assert all("copy's" in outcome["text"] for outcome in found[:4])


def test_unmeasured_targets_are_neither_met_nor_missed():
    found = targets.outcomes([], "cuda")
    assert all(outcome["met"] is None for outcome in found)
    assert "not measured" in targets_table(found, ["caching"])
    assert verdicts(found).startswith(f"0 of {len(found)} targets met")


def made_up(peer: str, milliseconds: float, setting: str = "kept", **changes) -> dict:
    case = Case("detection stem", cases.DETECTION, "float32", "contiguous", WINDOW_2)
    time = {"median_ms": milliseconds}
    row = {**case.as_json(), "setting": setting, "peer": peer, FORWARD: time, BOTH: time}
    return {**row, "peak_bytes": None, "saved_bytes": None, **changes}


@pytest.mark.parametrize(("soft", "met"), [(10.0, True), (10.01, False)])
def test_a_speedup_is_met_from_its_bound_on(soft, met):
    rows = [made_up(SOFT, soft), made_up(MAX, 150.0)]
    rows += [made_up(SOFT, 1.0, "default"), made_up(MAX, 3.0, "default")]
    first = targets.outcomes(rows, "cpu")[0]
    assert first["text"] == "float32 contiguous k2s2 forward: times faster than max"
    assert (first["bound"], first["sign"]) == (15.0, ">=")
    assert first["measured"] == pytest.approx(150.0 / soft)
    assert first["measured_default"] == 3.0
    assert first["met"] is met


def test_a_learned_temperature_may_cost_15_percent():
    rows = [made_up(SOFT, 1.0), made_up(BETA, 1.03), made_up(LEARNED, 1.15)]
    found = {outcome["text"]: outcome["met"] for outcome in targets.outcomes(rows, "cpu")}
    learned = "learned beta, float32 contiguous k2s2 fwd+bwd: of a number's"
    assert found[learned] is True
    assert found["beta 4, forward: time of beta 1's (largest)"] is False


def test_peak_memory_has_to_be_less_than_max_pools():
    def outcome(soft_bytes):
        rows = [made_up(SOFT, 1.0, peak_bytes=soft_bytes), made_up(MAX, 1.0, peak_bytes=100)]
        return next(o for o in targets.outcomes(rows, "cpu") if "peak" in o["text"])

    assert outcome(99)["met"] is True
    assert outcome(100)["met"] is False


def test_a_target_of_several_cases_is_its_worst_one():
    rows = []
    for shape, soft in (([2, 64, 400, 672], 1.0), ([16, 64, 400, 672], 4.0)):
        for peer, time in ((SOFT, soft), (MAX, 2.0)):
            rows.append(made_up(peer, time, "caching", shape=shape))
    worst = targets.outcomes(rows, "cuda")[0]
    assert worst["measured"] == 2.0
    assert worst["met"] is False
