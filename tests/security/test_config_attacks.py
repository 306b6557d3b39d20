"""Configs from a stranger, given to every program that takes one."""

import contextlib
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from softpool_det.classification.config import load_config as load_classifier_config
from softpool_det.comparison import arms
from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.side_by_side import run_side_by_side
from softpool_det.config import load_config

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
CLASSIFIER = ROOT / "configs/classification/digits_softpool.yaml"
PICTURE = ROOT / "docs/assets/operator.png"
LAZY = ROOT / "configs/lazy/retinanet_softpool_R_50_FPN_1x.py"

# What a program is given so that it reads the config; {} is the config's place.
DETECTOR_PROGRAMS = {
    "train_net.py": "--num-gpus 0 --config-file {}",
    "visualize.py": "--config-file {} --input {picture} --output out.png",
    "export_testdev.py": "--config-file {} --weights model.pth --alg a --output {out}",
    "compare.py": "--baseline {} --candidate {} --output {out}",
}
PROGRAMS = DETECTOR_PROGRAMS | {
    "train_classifier.py": "{}",
    "tables.py": "2 --report --networks resnet18 --recipe {} --output {out}",
}
CALLS = {
    "object/apply": "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path"
    " ['{marker}']]",
    "object/new": "!!python/object/new:os.mkdir ['{marker}']",
    "eval": "!!python/object/apply:eval [\"__import__('os').mkdir('{marker}')\"]",
    "known words around it": '!!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ]'
    " for x in [32, 64, 128, 256, __import__('os').mkdir('{marker}') ]]\"]",
    "module": "!!python/module:attack ''",
}


def arguments(template, config, output):
    places = {"{}": config, "{picture}": PICTURE, "{out}": output}
    return [places.get(word, word) for word in template.split()]


@pytest.fixture(autouse=True)
def attack_module(marker, tmp_path, monkeypatch):
    """A module that a tag could import."""
    (tmp_path / "attack.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert "attack" not in sys.modules


@pytest.mark.parametrize("in_base", [False, True], ids=["itself", "its base"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_tags_do_not_run(program, in_base, marker, refusal, tmp_path):
    file = bad = tmp_path / "config.yaml"
    if in_base:
        bad = tmp_path / "base.yaml"
        file.write_text("_BASE_: base.yaml\n")
    bad.write_text("MODEL:\n  WEIGHTS: " + CALLS["object/apply"].format(marker=marker) + "\n")
    error = refusal(program, *arguments(PROGRAMS[program], file, tmp_path / "out"))
    assert f"config {bad}, line 2: the tag '!!python/object/apply:pathlib.Path.touch'" in error
    assert "nothing was run" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("load", [load_config, load_classifier_config])
@pytest.mark.parametrize("call", CALLS)
def test_no_tag_runs(call, load, marker, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("MODEL:\n  WEIGHTS: " + CALLS[call].format(marker=marker) + "\n")
    with pytest.raises(ValueError, match="line 2: the tag '!!python/"):
        load(str(file))


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "a ${oc.decode:${oc.env:HOME}}", "${oc.${output}:HOME}"]
)
def test_classifiers_config_does_not_read_the_environment(value, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"network_options: {{overlay: {value!r}}}\n")
    with pytest.raises(ValueError, match=r"config\.yaml: \$\{.* would be computed"):
        load_classifier_config(str(file))


FORMS = ["{}", "!!python/object/apply:eval ['{}']", "[{}]", "${{{}}}"]


@pytest.mark.parametrize("form", FORMS)
def test_values_on_the_command_line_are_text(form, marker):
    text = form.format(f"__import__('os').mkdir('{marker}')")
    assert text == load_config(str(DETECTOR), ["MODEL.WEIGHTS", text]).MODEL.WEIGHTS


@pytest.mark.parametrize("form", [*FORMS, "${{eval:{}}}", "${{oc.decode:{}}}"])
def test_values_for_classifiers_are_text(form, marker):
    """They may be refused; nothing is evaluated."""
    text = form.format(f"__import__('os').mkdir('{marker}')")
    with contextlib.suppress(ValueError):
        cfg = load_classifier_config(str(CLASSIFIER), [f"weights={text}"])
        assert cfg.weights == text


@pytest.mark.parametrize("form", ["{}", "'${{eval:{}}}'", "eval({})"])
def test_values_for_lazy_configs_are_text(form, marker):
    """Their grammar may refuse them; nothing is evaluated."""
    text = form.format(f'__import__("os").mkdir("{marker}")')
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        str(load_config(str(LAZY), [f"train.init_checkpoint={text}"], trust_lazy_config=True))


@pytest.mark.parametrize("program", DETECTOR_PROGRAMS)
def test_lazy_configs_do_not_run(program, marker, refusal, tmp_path):
    file = tmp_path / "attack.py"
    error = refusal(program, *arguments(DETECTOR_PROGRAMS[program], file, tmp_path / "out"))
    assert f"{file} is a LazyConfig, which is Python code, and was not run." in error
    assert "pass --trust-lazy-config" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("program", ["train_classifier.py", "tables.py"])
def test_classifiers_take_no_python(program, marker, refusal, tmp_path):
    file = tmp_path / "attack.py"
    error = refusal(program, *arguments(PROGRAMS[program], file, tmp_path / "out"))
    assert f"config {file}" in error
    assert "not a YAML file of keys and values" in error


def test_configs_of_the_repository_are_code_too():
    with pytest.raises(PermissionError, match="is a LazyConfig"):
        load_config(str(LAZY))


def test_compare_hands_the_trust_on(lazy_config, tmp_path, monkeypatch):
    """To the program that trains, and only where it was given."""
    program, config = tmp_path / "stub_program.py", tmp_path / "config.py"
    monkeypatch.setattr(arms, "PROGRAM", program.stem)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config.write_text(lazy_config)
    program.write_text("import json, sys\nprint(json.dumps(sys.argv))\nsys.exit(3)\n")
    for trust, file in ((True, config), (False, DETECTOR)):
        arm = Arm("arm", str(file), trust_lazy_config=trust)
        folder = tmp_path / f"run_{trust}"
        with pytest.raises(RuntimeError, match="ended with status 3"):
            run_side_by_side([Run(arm, 1, folder)], 1, None, folder)
        words = json.loads((folder / "stdout.txt").read_text())
        assert ("--trust-lazy-config" in words) == trust


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize("form", ["{}", "file://{}", "detectron2://../../../../../..{}"])
@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_proposals_are_not_unpickled(split, form, marker, refusal, tmp_path):
    """Detectron2 would unpickle what a config names, from any address."""
    proposals = tmp_path / "proposals.pkl"
    proposals.write_bytes(pickle.dumps(Payload(marker)))
    name = form.format(proposals)
    file = tmp_path / "config.yaml"
    keys = {"DATASETS": {f"PROPOSAL_FILES_{split}": [name]}, "MODEL": {"LOAD_PROPOSALS": True}}
    file.write_text(json.dumps(keys))
    error = refusal("train_net.py", "--num-gpus", 0, "--config-file", file)
    assert re.match(f"(error: )?DATASETS.PROPOSAL_FILES_{split} names {name}, a pickle", error)


def test_proposals_of_the_zoo_are_taken(tmp_path):
    address = "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/proposals.pkl"
    file = tmp_path / "config.yaml"
    keys = {"DATASETS": {"PROPOSAL_FILES_TRAIN": [address]}, "MODEL": {"LOAD_PROPOSALS": True}}
    file.write_text(json.dumps(keys))
    assert (address,) == load_config(str(file)).DATASETS.PROPOSAL_FILES_TRAIN
