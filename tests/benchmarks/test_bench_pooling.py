"""The pooling benchmark: small real runs, its cases and peers."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pooling_worker
import pytest
import torch
from measuring import allocator
from pooling import against, cases, peers
from pooling.cases import OTHER_WINDOWS, WINDOW_2, WINDOW_3, Case, Window
from pooling.measure import measure
from pooling.names import (
    AVG,
    BETA,
    BOTH,
    DIRECTIONS,
    EXACT,
    FLOOR,
    FORWARD,
    FUSED,
    MAX,
    SOFT,
    STOCK_STEM,
)
from pooling.peers import Peer, usable
from pooling.plan import Plan
from pooling.plot import plot
from pooling.report import case_table

import softpool_det
from softpool_det.ops import soft_pool2d

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

SHAPE = (1, 4, 12, 10)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench_pooling.py"), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A real run on a small shape: what it printed, and its JSON."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    shape = ",".join(map(str, SHAPE))
    result = run("--quick", "--threads", "1", "--shape", shape, "--json", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, json.loads(path.read_text())


@pytest.mark.slow
def test_run_measures_every_case_in_both_allocator_settings(report):
    _, content = report
    peers = {SOFT, EXACT, MAX, AVG, FLOOR}
    for setting in allocator.available():
        rows = [row for row in content["rows"] if row["setting"] == setting]
        for kind in cases.CPU_TARGET_KINDS:
            for window in cases.WINDOWS:
                found = {
                    row["peer"]
                    for row in rows
                    if row["group"] == "given shape"
                    and (row["dtype"], row["layout"]) == kind
                    and row["window"] == vars(window)
                }
                assert found == peers
        assert sum(row["peer"] == STOCK_STEM for row in rows) == 4
    assert content["failed"] == []
    assert all(process["machine"]["threads"] == 1 for process in content["processes"])


@pytest.mark.slow
def test_run_counts_bytes(report):
    _, content = report
    rows = [row for row in content["rows"] if row["saved_bytes"] is not None]
    main = [row for row in rows if row["group"] == "given shape"]
    assert {row["saved_bytes"] for row in main if row["peer"] in (SOFT, EXACT, AVG)} == {0}
    maximum = next(row for row in main if row["peer"] == MAX and row["dtype"] == "float32")
    outputs = math.prod(SHAPE) // 4
    assert maximum["saved_bytes"] == 8 * outputs  # int64 indices
    # The output, the indices and the gradient of the input.
    assert maximum["peak_bytes"] >= 4 * outputs + 8 * outputs + 4 * math.prod(SHAPE)


@pytest.mark.slow
def test_run_prints_markdown_of_at_most_120_columns(report):
    printed, _ = report
    # Every line but that of the machine, whose names are as long as they are.
    assert all(len(line) <= 120 for line in printed.splitlines() if line.startswith(("|", "#")))
    assert "| softpool " in printed
    assert "/base" in printed
    assert "No targets" in printed


@pytest.mark.slow
@pytest.mark.skipif("kept" not in allocator.available(), reason="the C library is not glibc")
def test_run_shows_that_the_allocator_obeys(report):
    _, content = report
    key = "page_faults_of_a_16_mib_output"
    faults = {process["plan"]["setting"]: process[key] for process in content["processes"]}
    assert faults["kept"] < faults["default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "1,2"], "'1,2' is not N,C,H,W or N,C,D,H,W"),
        (["--shape", "1,2,x,4"], "'1,2,x,4' is not N,C,H,W"),
        (["--threads", "0"], "'0' is not a positive number"),
        (["--shape", "1,2,8,8", "--plot", "x.png"], "--plot draws the sweep"),
        (["--isa", "--device", "cuda"], "--isa is about the CPU's instruction sets"),
        (["--isa", "--against", "."], "with --against set SOFTPOOL_CPU_CAPABILITY"),
        (["--against", ".", "--plot", "x.png"], "--plot draws the sweep"),
        (["--against", "no/such"], "no/such is not a checkout of softpool_det"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.slow
def test_a_run_that_fails_says_so_and_keeps_the_rest(tmp_path):
    path = tmp_path / "report.json"
    # Too small for a window.
    result = run("--quick", "--shape", "1,1,1,1", "--json", str(path))
    assert result.returncode == 1
    assert "error: these runs failed" in result.stderr
    assert len(json.loads(path.read_text())["failed"]) == len(allocator.available())


CHECKOUT = Path(softpool_det.__file__).parents[1]


@pytest.mark.slow
def test_a_build_is_compared_with_itself(tmp_path):
    path = tmp_path / "report.json"
    shape = ",".join(map(str, SHAPE))
    result = run(
        *("--against", str(CHECKOUT), "--quick", "--threads", "1", "--shape", shape),
        *("--only", "float32 k3s2p1", "--json", str(path)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(f"{CHECKOUT}/softpool_det") == 2
    assert all(len(line) <= 120 for line in result.stdout.splitlines() if line.startswith("|"))
    content = json.loads(path.read_text())
    assert content["failed"] == []
    assert [process["build"] for process in content["processes"]] == ["old", "new"]
    compared = content["comparison"]
    found = {(row["layout"], row["peer"], row["direction"]) for row in compared}
    assert found == set(itertools.product(cases.LAYOUTS, (SOFT, EXACT, FUSED), DIRECTIONS))
    for row in compared:
        assert row["new_to_old"] == row["new_ms"] / row["old_ms"]
        assert row["kept"] == (None if row["peer"] == EXACT else row["new_to_old"] <= 1 / 0.95)
        assert min(row["control"], row["to_baseline"], row["to_floor"]) > 0
    rounds = {row["peer"]: row[FORWARD]["rounds"] for row in content["rows"]}
    assert rounds[SOFT] >= 3 * rounds[MAX] - 2 >= 1


@pytest.mark.slow
def test_a_case_that_fails_in_a_build_is_named():
    result = run(
        "--against", str(CHECKOUT), "--quick", "--shape", "1,1,1,1", "--only", "given k2s2"
    )
    assert result.returncode == 1
    for build in ("old", "new"):
        words = (
            f"given shape 1x1x1x1 float32 contiguous k2s2, {build}: softpool, softpool exact failed"
        )
        assert words in result.stderr


def test_folders_without_a_build_are_refused(tmp_path):
    assert "is not a checkout of softpool_det" in against.refusal(tmp_path)
    (tmp_path / "softpool_det" / "ops").mkdir(parents=True)
    assert "build_ext --inplace" in against.refusal(tmp_path)
    (tmp_path / "softpool_det" / "_C.abi3.so").touch()
    assert against.refusal(tmp_path) is None


def test_a_pooling_that_the_old_build_lacks_has_no_ratio():
    def row(peer, milliseconds):
        return {"peer": peer, **{d: {"q1_ms": milliseconds} for d in DIRECTIONS}}

    case = Case("detection stem", SHAPE, "float32", "contiguous", WINDOW_2)
    old = [row(SOFT, 1.0), row(MAX, 4.0), row(FLOOR, 0.5)]
    new = [row(SOFT, 1.1), row(BETA, 2.0), row(MAX, 5.0), row(FLOOR, 0.5)]
    rows = against._compared(case, {"old": old, "new": new})
    assert [(row["peer"], row["kept"]) for row in rows] == [(SOFT, False)] * 2 + [(BETA, None)] * 2
    assert (rows[0]["new_to_old"], rows[0]["control"]) == (1.1, 1.25)
    assert (rows[2]["new_to_old"], rows[2]["to_baseline"], rows[2]["to_floor"]) == (None, 0.4, 4)


def test_cases_are_chosen_by_words():
    case = Case("video stem", (2, 64, 8, 112, 112), "bfloat16", "channels_last", Window(3, 1, 1, 2))
    assert str(case) == "video stem 2x64x8x112x112 bfloat16 channels_last k3s1p1d2"
    assert all(case.matches(words) for words in ("", "k3s1p1d2 video"))
    assert not case.matches("video float16x")
    plan = Plan(
        ("main", "windows"), "cpu", "kept", None, None, None, True, False, only="8x112 k2s2"
    )
    assert len(plan.cases()) == 4
    assert {case.group for case in plan.cases()} == {"video stem"}


def test_sweep_has_the_sizes_it_names():
    found, left_out = cases.sweep_cases(cases.SWEEP, free_bytes=2**40)
    assert [case.elements for case in found] == [2**exponent for exponent in cases.SWEEP]
    assert all(case.shape[1] == 64 for case in found)
    assert left_out == []
    found, left_out = cases.sweep_cases(cases.SWEEP, free_bytes=2**30)
    assert found[-1].elements == 2**24
    assert left_out == [26, 28]


@pytest.mark.parametrize("window", [WINDOW_2, WINDOW_3, cases.WINDOW_3_UNPADDED, *OTHER_WINDOWS])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 3, 4, 9, 8)])
def test_a_case_knows_its_output(shape, window):
    case = Case("x", shape, "float32", "channels_last", window)
    input = case.new_input("cpu")
    pool = torch.nn.functional.max_pool2d if case.dims == 2 else torch.nn.functional.max_pool3d
    output = pool(input, window.kernel, window.stride, window.padding, window.dilation)
    assert output.numel() == case.out_elements
    last = torch.channels_last if case.dims == 2 else torch.channels_last_3d
    assert input.is_contiguous(memory_format=last)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_three_dimensional_cases_run(dtype):
    case = Case("video stem", (1, 2, 4, 6, 6), dtype, "channels_last", WINDOW_3)
    rows = measure(case, "cpu", seconds=0, min_rounds=1, memory=True)
    assert {SOFT, EXACT, MAX, FLOOR} <= {row["peer"] for row in rows}


@pytest.mark.slow
def test_plain_and_compiled_formulations_run_and_agree():
    case = Case("formulations", (1, 2, 12, 12), "float32", "contiguous", WINDOW_3)
    rows = measure(case, "cpu", seconds=0, min_rounds=1, memory=True)
    names = {row["peer"] for row in rows}
    assert {"unfold", "exp ratio", "compiled unfold", "compiled exp ratio"} <= names


def test_a_peer_that_computes_something_else_is_an_error():
    input = torch.randn(1, 1, 4, 4)
    right = Peer(lambda x: x * 2, computes=SOFT)
    wrong = Peer(lambda x: x * 2.001, computes=SOFT)
    other = Peer(lambda x: x)
    assert set(usable({"a": right, "b": right, "c": other}, input)) == {"a", "b", "c"}
    with pytest.raises(RuntimeError, match="b does not give what a gives"):
        usable({"a": right, "b": wrong}, input)


def test_a_peer_that_pytorch_lacks_is_left_out(capsys):
    def missing(x):
        raise NotImplementedError("not for this type")

    found = {"a": Peer(lambda x: x), "b": Peer(missing)}
    assert set(usable(found, torch.ones(1))) == {"a"}
    assert "Left out: b, because not for this type" in capsys.readouterr().out


def fail(*_) -> torch.Tensor:
    raise RuntimeError("CUDA error: invalid configuration argument\nand more lines")


class FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad_output):
        raise RuntimeError("no such grid")


def test_peers_that_fail_forward_or_backward_are_left_out(capsys):
    found = {
        "a": Peer(fail, computes=SOFT),
        "b": Peer(FailsBackward.apply, computes=SOFT),
        "c": Peer(lambda x: x, backward=fail),
        "d": Peer(lambda x: x * 1, computes=SOFT),
    }
    assert set(usable(found, torch.ones(1))) == {"d"}
    assert capsys.readouterr().out.split("\n\n") == [
        "Left out: a, because CUDA error: invalid configuration argument",
        "Left out: b, because no such grid",
        "Left out: c, because CUDA error: invalid configuration argument",
        "",
    ]


@pytest.mark.parametrize("lost", [SOFT, pytest.param(MAX, marks=pytest.mark.slow)])
def test_a_case_that_fails_does_not_lose_the_others(lost, monkeypatch, capsys, tmp_path):
    poolings = peers._poolings

    def broken(case):
        # The peer fails on one case; on another, a wrong value is an error.
        found = poolings(case)
        if case.dtype == "bfloat16" and case.window == WINDOW_3:
            found[lost] = Peer(fail, computes=SOFT if lost == SOFT else None)
        if case.dtype == "bfloat16" and case.window == WINDOW_2:
            found[EXACT] = Peer(lambda x: soft_pool2d(x, 2) * 1.5, computes=SOFT)
        return found

    monkeypatch.setattr(peers, "_poolings", broken)
    monkeypatch.setattr(pooling_worker, "effort", lambda plan: {"seconds": 0, "min_rounds": 1})
    plan = Plan(("given",), "cpu", "default", None, None, SHAPE, quick=True, memory=False)
    (tmp_path / "plan.json").write_text(json.dumps(asdict(plan)))
    files = [str(tmp_path / name) for name in ("plan.json", "result.json")]
    monkeypatch.setattr(sys, "argv", ["pooling_worker.py", *files])
    with pytest.raises(SystemExit) as stopped:
        pooling_worker.main()
    failed = str(stopped.value).splitlines()[1:]
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    rows = [row for row in rows if row["group"] == "given shape"]
    assert f"Left out: {lost}, because CUDA error: invalid configuration argument\n" in printed
    assert "bfloat16 channels_last, kernel 2 stride 2 padding 0; default: softpool exact" in printed
    # Without max pooling there is no ratio to it, but every other figure.
    assert len(failed) == (2 if lost == SOFT else 1)
    of_case = [row for row in rows if row["dtype"] == "bfloat16"]
    assert {row["peer"] for row in of_case} == {SOFT, EXACT, MAX, AVG, FLOOR} - {lost}
    assert {row[BOTH]["to_baseline"] is None for row in of_case} == {lost == MAX}
    assert len({str(row["window"]) for row in rows if row["dtype"] == "float32"}) == 2


def test_tables_show_what_was_not_counted_as_empty():
    case = Case("x", SHAPE, "float32", "contiguous", WINDOW_2)
    rows = measure(case, "cpu", seconds=0, min_rounds=1, memory=False)
    lines = case_table(case, "kept", rows).splitlines()
    assert lines[2].startswith("| pooling")
    assert all(line.endswith("|          |           |") for line in lines[4:])


def test_plot_draws_the_sweep(tmp_path):
    found, _ = cases.sweep_cases(range(8, 15, 2), free_bytes=2**30)
    rows = [
        {**case.as_json(), **row}
        for case in found
        for row in measure(case, "cpu", seconds=0, min_rounds=1, memory=False)
    ]
    plot(tmp_path / "new" / "sweep.png", rows, "title")
    assert (tmp_path / "new" / "sweep.png").read_bytes().startswith(b"\x89PNG")
