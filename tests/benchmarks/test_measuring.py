"""The clock, the memory count and the allocator's settings of the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from measuring import allocator, machine, memory, timing
from measuring.files import write_json

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

MIB = 2**20


def test_each_function_is_called_once_a_round():
    calls: list[str] = []
    functions = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = timing.interleaved(functions, seconds=0, min_rounds=5)
    rounds = [sorted(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert rounds == [["a", "b", "c"]] * 6, "one round to warm up and five that count"
    assert len({tuple(calls[start : start + 3]) for start in range(0, len(calls), 3)}) > 1
    assert all(taken.rounds == 5 for taken in times.values())
    assert all(taken.q1_ms <= taken.median_ms <= taken.q3_ms for taken in times.values())


def test_rounds_go_on_until_the_seconds_are_over():
    calls = {"a": lambda: None}
    times = timing.interleaved(calls, seconds=0.05, min_rounds=1, clock=lambda _: 7.0)
    assert times["a"].rounds > 1
    assert times["a"].median_ms == 7.0


def test_garbage_is_collected_between_calls_only():
    import gc

    states = []
    timing.interleaved({"a": lambda: states.append(gc.isenabled())}, seconds=0, min_rounds=2)
    assert states[1:] == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], (5, 5, 5)), ([4.0, 1.0, 3.0, 2.0, 5.0], (3, 2, 4)), ([1.0, 2.0], (1.5, 1.25, 1.75))],
)
def test_summary(values, expected):
    found = timing.summary(values)
    assert (found.median_ms, found.q1_ms, found.q3_ms) == expected
    assert found.rounds == len(values)


def test_peak_counts_what_is_alive_at_a_time():
    def two_then_one():
        a, b = torch.empty(MIB, dtype=torch.uint8), torch.empty(2 * MIB, dtype=torch.uint8)
        del a, b
        return torch.empty(MIB, dtype=torch.uint8)

    assert memory.peak_bytes(two_then_one, "cpu") == 3 * MIB
    before = torch.empty(8 * MIB, dtype=torch.uint8)
    # The number itself becomes a tensor.
    assert memory.peak_bytes(lambda: before.add_(1), "cpu") < 64


def test_saved_bytes_of_known_functions():
    input = torch.randn(1, 4, 64, 64, requires_grad=True)
    indices = 4 * 32 * 32 * 8
    assert memory.saved_bytes(lambda: F.max_pool2d(input, 2), input) == indices
    assert memory.saved_bytes(lambda: F.avg_pool2d(input, 2), input) == 0
    assert memory.saved_bytes(lambda: input.exp(), input) == input.nbytes
    assert memory.saved_bytes(lambda: input.sum(), input) == 0


FAULTS = """
import sys
sys.path.insert(0, sys.argv[1])
from measuring import allocator
allocator.use(sys.argv[2])
allocator.touch(2**25)
print(allocator.page_faults(lambda: b"x" * 2**24))
"""


@pytest.mark.skipif("kept" not in allocator.available(), reason="the C library is not glibc")
def test_kept_blocks_bring_no_page_faults():
    found = {}
    for setting in allocator.SETTINGS:
        command = [sys.executable, "-c", FAULTS, str(BENCHMARKS), setting]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found[setting] = int(run.stdout)
    # 16 MiB are 4096 pages of 4 KiB, or fewer larger ones.
    assert found["kept"] < 8 <= found["default"]


def test_kept_needs_glibc(monkeypatch):
    monkeypatch.setattr(allocator, "available", lambda: ("default",))
    allocator.use("default")
    with pytest.raises(ValueError, match="'kept' needs Linux with glibc; use 'default'"):
        allocator.use("kept")


def test_description_names_device_and_versions():
    found = machine.description("cpu")
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device_name"]
    assert found["compiler"] is None or found["compiler"].startswith(("GCC", "clang"))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "new" / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(path.parent.iterdir()) == [path]
