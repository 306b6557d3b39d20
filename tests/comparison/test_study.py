"""tools/study.py as a user runs it, on a few real images."""

import contextlib
import io
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from test_compare import CONFIGS, ROOT, TINY

from softpool_det.comparison.compare import RESULTS_FILE, check_arms
from softpool_det.comparison.study import read_study
from softpool_det.statistics import compare_results

SOFTPOOL = str(CONFIGS / "digits_retinanet_softpool_R_18_FPN.yaml")
ARMS = {
    "max 3x3": {"config": str(CONFIGS / "digits_retinanet_R_18_FPN.yaml")},
    "beta 4": {"config": SOFTPOOL, "overrides": {"MODEL.STEM_POOL.BETA": 4.0}},
    "average": {"config": SOFTPOOL, "overrides": {"MODEL.STEM_POOL.BETA": 0.0}},
}


def study_file(folder, **changes):
    content = {
        "output": str(folder / "output"),
        "seeds": [1, 2],
        "margin": 0.5,
        "resamples": 20,
        "overrides": dict(zip(TINY[::2], TINY[1::2], strict=True)),
        "arms": ARMS,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


@pytest.fixture
def study_here(small_datasets, datasets_in, program_here, one_thread, monkeypatch):
    """Runs the program in this process, its trainings in theirs; gives what it prints."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_datasets))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(path, workers=2, options=()):
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            program_here("tools/study.py", path, "--workers", workers, *options)
        return printed.getvalue()

    with datasets_in(small_datasets):
        yield run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "number"),
    [
        # Which the running process gets as SIGTERM.
        (["max 3x3", "beta 4"], signal.SIGINT),
        # With intervals that are simultaneous.
        (list(ARMS), signal.SIGTERM),
    ],
    ids=["2", "all"],
)
def test_is_preliminary_interrupted_continued_and_reported(
    names, number, signalled, study_here, program_here, tmp_path
):
    path = study_file(tmp_path, arms={name: ARMS[name] for name in names})
    output, count = tmp_path / "output", len(names)
    # A run at a time, so that the signal ends no more than one.
    with signalled(number, (output / "report.html").exists):
        study_here(path, workers=1)
    data = json.loads((output / "comparison.json").read_text())
    assert data["seeds"] == [1]
    assert data["remarks"][0].startswith("Preliminary: 1 of 2 seeds.")
    done = {run: run.stat().st_mtime_ns for run in output.glob("*/seed_*/result.json")}
    assert count <= len(done) < 2 * count
    assert f"{2 * count}/{2 * count}" in study_here(path)
    assert len(list(output.glob("*/seed_*/result.json"))) == 2 * count
    # What was there was taken as it is.
    assert all(run.stat().st_mtime_ns == when for run, when in done.items())
    data = json.loads((output / "comparison.json").read_text())
    assert data["names"] == names
    assert data["seeds"] == [1, 2]
    assert set(data["costs"]) == set(data["softness"]) == set(names)
    assert data["softness"]["beta 4"]["beta"] == 4
    for difference in data["tasks"]["bbox"]["differences"]:
        assert difference["margin"] == 0.5
        if count > 2:
            assert f"simultaneous with {count - 2} more" in difference["verdict"]
            assert difference["metrics"]["AP"]["p_value_holm"] is not None
    assert "Preliminary" not in (output / "comparison.md").read_text()
    assert ("simultaneous" in (output / "report.html").read_text()) == (count > 2)
    assert "Largest weight" in (output / "report.html").read_text()
    check_records(path, output, names, tmp_path / "records.jsonl", program_here)


def check_records(path, output, names, records, program_here):
    """The records alone give the intervals that the result files give."""
    program = "benchmarks/study_records.py"
    for _ in range(2):  # the second finds them all there
        program_here(program, "keep", path, records)
        assert len(records.read_text().splitlines()) == 2 * len(names)
    excerpt = records.with_suffix(".json")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        program_here(program, "compare", records, "--output", excerpt, "--pair", *names[:2])
    assert "max 3x3 minus beta 4, 2 seeds" in printed.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        program_here(program, "compare", records, "--arms", *reversed(names))
    lines = printed.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines[1:]] == list(reversed(names))
    for option in (["--arms", names[0], "beta 5"], ["--pair", names[0], "beta 5"]):
        with pytest.raises(SystemExit, match=f"{option[0]} 'beta 5': to choose from are"):
            program_here(program, "compare", records, *option)
    kept = json.loads(excerpt.read_text())
    results = {
        arm: [output / arm / f"seed_{seed}" / RESULTS_FILE for seed in (1, 2)] for arm in names
    }
    found = compare_results(ground_truth(output), results, margin=0.5, permutations=1)
    for arm in names:
        want = found["tasks"]["bbox"]["metrics"][arm]["AP"]
        got = kept["tasks"]["bbox"]["metrics"][arm]["AP"]
        assert got["by_seed"] == pytest.approx(want["by_seed"], abs=1e-3)
        assert [got["low"], got["high"]] == pytest.approx([want["low"], want["high"]], abs=0.02)
    for want, got in zip(
        found["tasks"]["bbox"]["differences"],
        kept["tasks"]["bbox"]["differences"],
        strict=True,
    ):
        keys = ["low", "high", "p_better"]
        keys += ["simultaneous_low", "simultaneous_high"] * (len(names) > 2)
        for key in keys:
            assert got["metrics"]["AP"][key] == pytest.approx(want["metrics"]["AP"][key], abs=0.02)


def ground_truth(output):
    files = json.loads((output / "comparison.json").read_text())["provenance"]["files"]
    return next(file["path"] for file in files if file["what"] == "ground truth")


def test_one_machine_runs_its_share_of_the_seeds(tmp_path):
    path = study_file(tmp_path)
    share = read_study(path, seeds=[2])
    assert (share.seeds, share.planned_seeds) == ((2,), 2)
    assert [run.seed for run in share.runs()] == [2, 2, 2]
    with pytest.raises(ValueError, match=r"seeds=\[3\]: .* has the seeds \[1, 2\]"):
        read_study(path, seeds=[3])


def test_runs_that_are_kept_do_not_run_again(study_here, tmp_path):
    path, records = study_file(tmp_path, seeds=[1]), tmp_path / "records.jsonl"
    study = read_study(path)
    kept = [(arm.name, 1) for arm in study.arms]
    assert [run.arm.name for run in replace(study, kept=frozenset(kept[:2])).runs()] == ["average"]
    records.write_text("".join(json.dumps({"arm": a, "seed": s}) + "\n" for a, s in kept))
    study_here(path, options=["--kept", records])
    assert not list((tmp_path / "output").glob("**/result.json"))
    assert not (tmp_path / "output" / "report.html").exists()


@pytest.mark.slow  # tests/comparison/test_compare.py has such a run fail
def test_a_failed_run_is_named_after_the_others_are_finished(study_here, tmp_path, capfd):
    arms = {"beta 4": {}, "max 3x3": ARMS["max 3x3"]}
    arms["beta 4"] = {"config": SOFTPOOL, "overrides": {"SOLVER.OPTIMIZER": "Lion"}}
    path = study_file(tmp_path, arms=arms, seeds=[1])
    with pytest.raises(SystemExit, match=r"^error: beta 4, seed 1, ended with status 1"):
        study_here(path, workers=1)
    assert "SOLVER.OPTIMIZER must be SGD or AdamW" in capfd.readouterr().err
    assert (tmp_path / "output" / "max 3x3" / "seed_1" / "result.json").is_file()
    # Finished runs of other settings are not taken.
    arms["max 3x3"] = {"config": SOFTPOOL}
    with pytest.raises(SystemExit, match="max 3x3/seed_1 holds a run of another config"):
        study_here(study_file(tmp_path, arms=arms, seeds=[1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "1 2"}, "seeds of it must be a list, got '1 2'"),
        ({"seeds": [1, "2"]}, r"seeds must be a list of integers, got \[1, '2'\]"),
        ({"arms": ["a"]}, "arms of it must be a mapping"),
        ({"arms": {"a": {"overrides": {}}}}, "arm 'a' lacks 'config'"),
        ({"arms": {"a": {"config": 3}}}, "config of arm 'a' must be text, got 3"),
        ({"arms": {"a": {"config": "c", "seed": 1}}}, "arm 'a' has the key 'seed'; known are"),
        ({"margin": -1}, "margin=-1, must be a number above 0"),
        ({"margin": float("nan")}, "margin=nan, must be a number above 0"),
        ({"resamples": 0}, "resamples must be at least 1, got 0"),
        ({"epochs": 3}, "it has the key 'epochs'; known are output"),
        ({"output": None}, "output of it must be text, got None"),
        ({"overrides": "KEY VALUE"}, "overrides of it must be a mapping"),
    ],
)
def test_says_what_is_wrong_with_the_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"study.yaml: {message}"):
        read_study(study_file(tmp_path, **changes))


def test_an_arm_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("output: o\nseeds: [1]\narms:\n  a: {config: c}\n  a: {config: d}\n")
    with pytest.raises(ValueError, match="the key 'a' stands twice in one mapping"):
        read_study(path)


def test_waits_for_a_run_that_another_program_holds(tmp_path):
    run = read_study(study_file(tmp_path)).runs()[0]
    with (
        run.claimed(),
        pytest.raises(BlockingIOError, match="held by another"),
        run.claimed(wait=False),
    ):
        pass


def test_refuses_code(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("output: !!python/object/apply:os.system [echo]\n")
    with pytest.raises(ValueError, match=r"study.yaml: not a YAML file"):
        read_study(path)


def test_overrides_are_spelled_as_on_a_command_line(tmp_path):
    (_, beta_4, _) = read_study(study_file(tmp_path, overrides={"SOLVER.MAX_ITER": 3})).arms
    assert beta_4.overrides == ("SOLVER.MAX_ITER", "3", "MODEL.STEM_POOL.BETA", "4.0")
    lazy = {name: {"config": "c.py", "overrides": {"train.max_iter": 3}} for name in "ab"}
    assert read_study(study_file(tmp_path, overrides={}, arms=lazy)).arms[0].overrides == (
        "train.max_iter=3",
    )


def test_each_seed_has_weights_of_its_own(tmp_path):
    """Those that a training starts from, and those that are evaluated."""
    arm = {"config": SOFTPOOL, "overrides": {"MODEL.WEIGHTS": "start/{seed}.pth"}}
    tested = {"config": SOFTPOOL, "weights": "trained_{seed}/model_final.pth"}
    path = study_file(tmp_path, arms={"trained": arm, "tested": tested})
    trained, tested = read_study(path).arms
    assert [trained.load(seed).MODEL.WEIGHTS for seed in (1, 2)] == ["start/1.pth", "start/2.pth"]
    assert tested.load(2).MODEL.WEIGHTS == "trained_2/model_final.pth"
    (tmp_path / "trained_1").mkdir()
    (tmp_path / "trained_1" / "model_final.pth").touch()
    tested = replace(tested, weights=str(tmp_path / tested.weights))
    with pytest.raises(FileNotFoundError, match=r"trained_2/model_final.pth, of the arm 'tested'"):
        check_arms([trained, tested], [1, 2], tmp_path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "studies").iterdir()), ids=lambda p: p.stem
)
def test_the_studies_of_this_project_can_be_read(path):
    study = read_study(path)
    for arm in study.arms:
        arm.load(study.seeds[0])
    assert Path(study.folder).parts[0] == "output"
