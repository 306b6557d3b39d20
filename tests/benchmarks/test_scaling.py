"""Training on many GPUs, on paper: the arithmetic, the simulation, and the page's tables."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scaling.cluster import Cluster, all_reduce_seconds, bytes_sent
from scaling.step import BUCKET, FIRST_BUCKET, Gradient, Profile, buckets, simulate
from scaling.stragglers import areas, slowest, spread
from scaling.table import COUNTS, Inputs, alone, rows

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "scaling.py"
MEASURED = ROOT / "benchmarks" / "results" / "scaling" / "measured.json"
CLUSTER = Cluster()
MIB = 2**20
SIDES = (640, 800)


def profile(sizes, ready, end=0.9):
    return Profile(tuple(map(Gradient, sizes, ready)), end)


def given(**more):
    sizes, ready = [10 * MIB] * 6, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    values = {"profile": profile(sizes, ready), "step_ms": 100.0, "sigma": 0.02}
    return Inputs(**{**values, "worker_rate": 80.0, **more})


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_one_machine_is_a_ring(processes):
    size = 1e9
    expected = 2 * (processes - 1) / processes * size / CLUSTER.link
    expected += 2 * (processes - 1) * CLUSTER.link_delay
    assert math.isclose(all_reduce_seconds(size, processes, CLUSTER), expected, abs_tol=1e-15)


@pytest.mark.parametrize(("processes", "gpus"), [(16, 8), (1024, 8), (12, 4), (5, 1)])
def test_three_phases_send_as_many_bytes_as_one_ring(processes, gpus):
    # With the same speed everywhere and no delays, time is bytes.
    cluster = Cluster(gpus, 1.0, 1.0, 0.0, 0.0)
    found = all_reduce_seconds(3e6, processes, cluster)
    assert math.isclose(found, bytes_sent(3e6, processes))


def test_machines_that_are_not_full_are_refused():
    with pytest.raises(ValueError, match="12 GPUs are no whole machines of 8"):
        all_reduce_seconds(1e6, 12, CLUSTER)


def test_buckets_are_those_of_distributed_data_parallel():
    measured = json.loads(MEASURED.read_text())["gradients"]["retinanet"]["gradients"]
    gradients = [Gradient(size, ready) for _, size, ready in measured]
    found = buckets(gradients)
    assert sum(bucket.bytes for bucket in found) == sum(g.bytes for g in gradients)
    assert [bucket.ready for bucket in found] == sorted(bucket.ready for bucket in found)
    tensors = [torch.empty(gradient.bytes // 4, device="meta") for gradient in gradients]
    limits = [FIRST_BUCKET, BUCKET]
    groups, _ = dist._compute_bucket_assignment_by_size(tensors, limits)
    assert [bucket.bytes for bucket in found] == [
        sum(gradients[i].bytes for i in group) for group in groups
    ]


def test_one_process_communicates_nothing():
    step = simulate(given().profile, 0.1, 1, CLUSTER)
    assert (step.seconds, step.exposed) == (0.1, 0.0)
    assert bytes_sent(1e9, 1) == 0


def test_without_overlap_the_simulation_is_the_formula():
    # All gradients are ready at the end of the backward, in three buckets.
    sizes = [2 * MIB, 30 * MIB, 5 * MIB]
    step = simulate(profile(sizes, [0.9] * 3), 0.1, 16, CLUSTER)
    expected = sum(all_reduce_seconds(size, 16, CLUSTER) for size in [*sizes, 8])
    assert math.isclose(step.exposed, expected)
    assert math.isclose(step.seconds, 0.1 + expected)


def test_what_fits_into_the_backward_is_hidden():
    early = profile([30 * MIB, 4], [0.1, 0.9])
    last = all_reduce_seconds(4, 16, CLUSTER) + all_reduce_seconds(8, 16, CLUSTER)
    assert math.isclose(simulate(early, 0.1, 16, CLUSTER).exposed, last)
    # A slow network: the second bucket waits until the first is through.
    slow = Cluster(network=1e7)
    both = all_reduce_seconds(30 * MIB, 16, slow) + all_reduce_seconds(4, 16, slow)
    expected = 0.1 * 0.1 + both - 0.9 * 0.1 + all_reduce_seconds(8, 16, slow)
    assert math.isclose(simulate(early, 0.1, 16, slow).exposed, expected)


def test_areas_are_padded_to_the_largest_image():
    generator = np.random.default_rng(0)
    one = areas(SIDES, 1, 100_000, generator)
    two = areas(SIDES, 2, 100_000, generator)
    small, large = 640**2, 800**2
    assert math.isclose(one.mean(), 1, abs_tol=0.01)
    assert np.allclose(
        np.unique(one), [small / (small / 2 + large / 2), large * 2 / (small + large)]
    )
    # Two images: three pairs out of four hold a large one.
    assert math.isclose((two == two.max()).mean(), 0.75, abs_tol=0.01)


def test_slowest_of_more_is_never_faster():
    means = [slowest(n, SIDES, 2, 0.02, 500, seed=0) for n in (1, 2, 4, 8, 64)]
    for fewer, more in itertools.pairwise(means):
        assert (more >= fewer).all()
    # Without noise the slowest of many has the largest images, and no more.
    small, large = 640**2, 800**2
    most = large / (small / 4 + 3 * large / 4)
    assert np.allclose(slowest(64, SIDES, 2, 0.0, 50, seed=0), most)


def test_spread_of_a_normal_distribution():
    logs = 3 + 0.05 * np.random.default_rng(0).standard_normal(100_000)
    q1, q3 = np.exp(np.quantile(logs, [0.25, 0.75]))
    assert math.isclose(spread(q1, q3), 0.05, rel_tol=0.02)


def test_rows_are_monotone():
    found = rows(given(), CLUSTER, steps=200)
    assert [row["gpus"] for row in found] == list(COUNTS)
    first, *_ = found
    assert first["step_ms"] == pytest.approx(100)
    assert first["efficiency"] == pytest.approx(1)
    assert first["waiting_ms"] == pytest.approx(0)
    assert first["exposed_ms"] == first["mib_sent"] == 0
    for fewer, more in itertools.pairwise(found):
        assert more["step_ms"] > fewer["step_ms"]
        assert more["efficiency"] < fewer["efficiency"]
        assert more["images_s"] > fewer["images_s"]
        assert more["mib_sent"] > fewer["mib_sent"]
    for row in found:
        parts = 100 + row["waiting_ms"] + row["exposed_ms"]
        assert row["step_ms"] == pytest.approx(parts)
        assert row["mib_sent"] == pytest.approx(60 * 2 * (row["gpus"] - 1) / row["gpus"])


def test_a_step_measured_on_eight_is_that_of_the_row_of_eight():
    found = alone(given(), CLUSTER, 200, 1.0, 8)
    assert found.step_ms < 100
    (row,) = rows(found, CLUSTER, 200, counts=(8,))
    assert row["step_ms"] == pytest.approx(100, abs=1e-3)


def test_half_the_bytes_cost_less():
    slow = Cluster(network=1e9)
    whole, half = (rows(given(), slow, 50, scale, (64,))[0] for scale in (1.0, 0.5))
    assert half["mib_sent"] == whole["mib_sent"] / 2
    assert half["exposed_ms"] < whole["exposed_ms"]


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_page_has_what_the_program_prints(tmp_path):
    path = tmp_path / "scaling.json"
    result = run("table", "--json", path)
    assert result.returncode == 0, result.stderr
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert result.stdout.strip() in page, "docs/scaling.md: python benchmarks/scaling.py table"
    models = json.loads(path.read_text())["models"]
    for model, rest in models.items():
        size = json.loads(MEASURED.read_text())["gradients"][model]["parameters"] * 4
        assert rest["bytes"] == size
        assert f"{size // 4:,}" in page


@pytest.mark.slow
def test_measuring_writes_what_the_tables_need(tmp_path):
    path = tmp_path / "measured.json"
    result = run("measure", "--rounds", 1, "--images", 3, "--json", path)
    assert result.returncode == 0, result.stderr
    found, committed = (json.loads(p.read_text()) for p in (path, MEASURED))
    for model, one in found["gradients"].items():
        # Sizes are the model's, whatever the machine.
        sizes = {name: size for name, size, _ in one["gradients"]}
        assert sizes == {n: s for n, s, _ in committed["gradients"][model]["gradients"]}
        assert 0 < one["gradients"][0][2] < one["gradients"][-1][2] <= one["backward_end"] < 1
        assert found["loader"][model]["median"] > 0
    assert run("table", "--measured", path, "--steps", 10).returncode == 0
