"""tools/compare.py as a user runs it, on a few real images."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softpool_det.comparison import arms
from softpool_det.comparison.compare import _run_remarks
from softpool_det.report import comparison_text

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "demo"
# As in test_train_net.py: small enough for seconds, all of the real thing.
TINY = [
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "1"),
    *("SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.DEVICE", "cpu"),
    *("MODEL.RETINANET.SCORE_THRESH_TEST", "0.0"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
]


def command(output, *arguments, model="retinanet", changes=()):
    configs = [CONFIGS / f"digits_{model}{name}_R_18_FPN.yaml" for name in ("", "_softpool")]
    run = [sys.executable, str(ROOT / "tools" / "compare.py"), "--output", str(output)]
    run += ["--baseline", str(configs[0]), "--candidate", str(configs[1]), *arguments]
    return [*run, "--resamples", "50", "--", *TINY, *changes]


def compare(environment, output, *arguments, **options):
    return subprocess.run(
        command(output, *arguments, **options),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def compare_here(small_datasets, datasets_in, program_here, one_thread):
    """Runs the program in this process, its trainings in theirs."""

    def run(output, *arguments, **options):
        program_here("tools/compare.py", *command(output, *arguments, **options)[2:])

    with datasets_in(small_datasets), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(small_datasets))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield run


@contextlib.contextmanager
def errors_into(file):
    """What this process and those that it starts write to stderr goes into a file."""
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with contextlib.redirect_stderr(file):
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@pytest.fixture(
    scope="module", params=["retinanet", pytest.param("mask_rcnn", marks=pytest.mark.slow)]
)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def tasks(model):
    return ["bbox", "segm"] if model == "mask_rcnn" else ["bbox"]


@pytest.fixture(scope="module")
def seeds(model):
    return [1, 2] if model == "mask_rcnn" else [1]


@pytest.fixture(scope="module")
def finished(model, seeds, compare_here, tmp_path_factory):
    """The folder of a comparison, and what it wrote to stdout and stderr."""
    output = tmp_path_factory.mktemp("comparison")
    errors = tmp_path_factory.mktemp("printed") / "stderr.txt"
    # Several processes append to it.
    with (
        errors.open("a", buffering=1) as file,
        errors_into(file),
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        compare_here(output, "--seeds", *map(str, seeds), model=model)
    return output, printed.getvalue(), errors.read_text()


def test_prints_both_arms_report_and_verdicts(finished, tasks, seeds):
    output, printed, errors = finished
    lines = printed.splitlines()
    tables = [i for i, line in enumerate(lines) if line.startswith("|-")]
    assert len(tables) == len(tasks)
    for start in tables:
        columns = [cell.strip() for cell in lines[start - 1].strip("|").split("|")][1:]
        assert columns == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR"]
        rows = [line.split("|")[1].strip() for line in lines[start + 1 : start + 4]]
        assert rows == ["stock", "SoftPool", "SoftPool - stock"]
    assert comparison_text(json.loads((output / "comparison.json").read_text())) in printed
    verdicts = len(tasks)
    assert lines[-1 - verdicts] == f"Report: {output / 'report.html'}"
    assert all("SoftPool" in line and "interval" in line for line in lines[-verdicts:])
    count = 2 * len(seeds)
    assert f"| {count}/{count} runs [" in errors


def test_writes_what_it_measured(finished, tasks, seeds):
    output, _, _ = finished
    data = json.loads((output / "comparison.json").read_text())
    assert data["seeds"] == seeds
    assert list(data["tasks"]) == tasks
    # Our own evaluation of the runs' files is Detectron2's, which is pycocotools'.
    for name, runs in data["runs"].items():
        for task, results in data["tasks"].items():
            for place, run in enumerate(runs.values()):
                for metric in ("AP", "AP50", "APm"):
                    ours = results["metrics"][name][metric]["by_seed"][place]
                    assert ours == pytest.approx(run["metrics"][task][metric], abs=1e-9)
    stock, softpool = data["costs"]["stock"], data["costs"]["SoftPool"]
    # Pooling has no parameters, and fvcore counts none of its operations.
    assert stock["parameters"] == softpool["parameters"] > 11e6
    assert stock["gflops"] == pytest.approx(softpool["gflops"], rel=0.2)
    assert softpool["train_seconds"] > 0
    assert softpool["peak_memory_bytes"] > 100 * 2**20
    curve = data["training"]["SoftPool"][0]
    assert curve["iterations"] == sorted(set(curve["iterations"]))
    assert len(curve["losses"]["total_loss"]) == len(curve["iterations"]) > 0


def test_says_what_differs_and_where_the_figures_come_from(finished):
    output, _, _ = finished
    data = json.loads((output / "comparison.json").read_text())
    changed = [
        line for line in data["config_difference"]["SoftPool"].splitlines() if line[:1] == "+"
    ]
    assert any("softpool_resnet_fpn_backbone" in line for line in changed)
    assert len(changed) == 2  # the file's name, and the backbone's
    weights = output / "stock" / "seed_1" / "model_final.pth"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    sums = {entry["what"]: entry["sha256"] for entry in data["provenance"]["files"]}
    assert sums["weights of stock, seed 1"] == digest
    assert {"ground truth", "results of SoftPool, seed 1"} <= set(sums)
    # Both arms' training set, once.
    what = [entry["what"] for entry in data["provenance"]["files"]]
    assert what.count("annotations of digit_scenes_train") == 1
    page = (output / "report.html").read_text()
    assert digest in page
    assert page.count("data:image/") >= 6
    assert "softpool_resnet_fpn_backbone" in page


@pytest.mark.slow  # tests/comparison/test_study.py continues such runs
def test_takes_finished_runs_and_resumes_an_interrupted_one(finished, model, seeds, compare_here):
    output, _, _ = finished
    kept = output / "stock" / "seed_1" / "model_final.pth"
    resumed = output / "SoftPool" / "seed_1"
    before = kept.stat().st_mtime_ns
    # As if killed after the first of two iterations.
    (resumed / "result.json").unlink()
    (resumed / "model_final.pth").unlink()
    (resumed / "last_checkpoint").write_text("model_0000000.pth")
    first = [json.loads(line)["iteration"] for line in (resumed / "metrics.json").open()]

    compare_here(output, "--seeds", *map(str, seeds), model=model)
    assert kept.stat().st_mtime_ns == before
    assert (resumed / "model_final.pth").is_file()
    log = (resumed / "stdout.txt").read_text()
    assert "Starting training from iteration 1" in log
    again = [json.loads(line)["iteration"] for line in (resumed / "metrics.json").open()]
    assert len(again) > len(first)


@pytest.mark.slow  # makes the whole data set
def test_makes_the_data_of_finished_runs_where_they_are_gone(
    finished, model, seeds, environment, tmp_path
):
    environment = {**environment, "DETECTRON2_DATASETS": str(tmp_path)}
    done = compare(environment, finished[0], "--seeds", *map(str, seeds), model=model)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digit_scenes_val" / "annotations.json").is_file()


def test_refuses_a_folder_of_another_config(finished, model, compare_here):
    output, _, _ = finished
    with pytest.raises(SystemExit, match="holds a run of another config") as error:
        compare_here(output, "--seeds", "1", model=model, changes=["SOLVER.BASE_LR", "0.5"])
    assert "BASE_LR: 0.5" in str(error.value)


@pytest.mark.slow
def test_takes_checkpoints(finished, model, seeds, environment, tmp_path):
    output, _, _ = finished
    weights = [output / arm / "seed_{seed}" / "model_final.pth" for arm in ("stock", "SoftPool")]
    arguments = ["--baseline-weights", str(weights[0]), "--candidate-weights", str(weights[1])]
    arguments += ["--seeds", *map(str, seeds)]
    done = compare(environment, tmp_path, *arguments, model=model)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        json.loads((tmp_path / "comparison.json").read_text())["costs"]["stock"]["train_seconds"]
        is None
    )
    for seed in seeds:
        taken = json.loads((tmp_path / "comparison.json").read_text())["runs"]["stock"][str(seed)]
        trained = json.loads((output / "stock" / f"seed_{seed}" / "result.json").read_text())
        assert taken["metrics"] == trained["metrics"]


@pytest.mark.slow  # tests/comparison/test_study.py sends one to the same runs
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signal_saves_and_ends_well(environment, tmp_path, number):
    """The training gets the signal, too, and saves; the same command continues it."""
    run = command(tmp_path, changes=["SOLVER.MAX_ITER", "3000"])
    stock = tmp_path / "stock" / "seed_1"
    process = subprocess.Popen(
        run, env=environment, stderr=subprocess.PIPE, text=True, process_group=0
    )
    while not (stock / "last_checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.05)
    # To all, as a terminal sends it.
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "interrupted; the same command continues it" in errors
    assert "Traceback" not in errors
    log = (stock / "stdout.txt").read_text()
    stop = re.search(r"saved after iteration (\d+); --resume continues", log)[1]
    assert (stock / "last_checkpoint").read_text() == f"model_{int(stop):07d}.pth"


def test_says_which_arm_failed_and_where_its_log_is(compare_here, tmp_path, capfd):
    with pytest.raises(SystemExit, match="stock, seed 1, ended with status 1") as error:
        compare_here(tmp_path, changes=["SOLVER.OPTIMIZER", "Lion"])
    assert str(tmp_path / "stock" / "seed_1" / "stdout.txt") in str(error.value)
    assert "SOLVER.OPTIMIZER must be SGD or AdamW" in capfd.readouterr().err


@pytest.mark.slow
def test_compares_lazy_configs(environment, lazy_config, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(lazy_config)
    output = tmp_path / "output"
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--output", str(output)]
    command += ["--baseline", str(config), "--candidate", str(config), "--names", "one", "other"]
    command += ["--resamples", "50", "--trust-lazy-config"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    task = json.loads((output / "comparison.json").read_text())["tasks"]["bbox"]
    # The same config with the same seed: whatever is random in a run has been seeded.
    assert task["metrics"]["one"]["AP"] == task["metrics"]["other"]["AP"]
    assert "No difference is shown" in done.stdout


@pytest.mark.parametrize(
    ("given", "threads"), [(None, max(1, len(os.sched_getaffinity(0)) // 2)), ("3", 3)]
)
def test_several_runs_at_a_time_share_the_cores(
    compare_here, tmp_path, monkeypatch, given, threads
):
    program = tmp_path / "stub_program.py"
    program.write_text("import os, sys\nprint(os.environ['OMP_NUM_THREADS'])\nsys.exit(3)\n")
    monkeypatch.setattr(arms, "PROGRAM", program.stem)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    with pytest.raises(SystemExit, match="stock, seed 1, ended with status 3"):
        compare_here(tmp_path / "runs", "--workers", "2")
    for arm in ("stock", "SoftPool"):
        log = tmp_path / "runs" / arm / "seed_1" / "stdout.txt"
        assert log.read_text() == f"{threads}\n"


def test_remarks_of_runs():
    """Once for each arm."""
    runs = {
        "stock": {1: {"remarks": ["Chosen."]}, 2: {"remarks": ["Chosen."]}},
        "SoftPool": {1: {}},
    }
    assert _run_remarks(runs) == ["stock: Chosen."]
