"""YAML configs: Detectron2's own read to the same values, and what is refused is named."""

import re
from pathlib import Path

import pytest
import yaml
from detectron2 import model_zoo
from detectron2.config import get_cfg

from softpool_det.config import load_config
from softpool_det.config.safe_yaml import KNOWN_EXPRESSIONS, merge_yaml

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
ZOO = Path(model_zoo.get_config_file(RETINANET)).parents[1]
NESTED = " is nested too deeply, or is among its own _BASE_ files"
TAGGED = "MODEL:\n  WEIGHTS: {}\n"


@pytest.mark.parametrize(
    "path", sorted(ZOO.glob("**/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_zoo_has_the_values_that_detectron2_reads(path):
    ours, theirs = get_cfg(), get_cfg()
    merge_yaml(ours, str(path))
    # Unsafely: the files are of the installed Detectron2.
    theirs.merge_from_file(str(path))
    assert ours == theirs
    assert ours.dump() == theirs.dump()


def test_load_config_reads_the_zoos_retinanet():
    cfg = load_config(str(ZOO / RETINANET))
    expected = [[x * 2 ** (octave / 3) for octave in range(3)] for x in (32, 64, 128, 256, 512)]
    assert expected == cfg.MODEL.ANCHOR_GENERATOR.SIZES


@pytest.mark.parametrize("expression", KNOWN_EXPRESSIONS)
def test_known_expressions_have_their_values(expression):
    assert KNOWN_EXPRESSIONS[expression] == eval(expression)


@pytest.mark.parametrize("version", [1, 2])
def test_bases_and_versions(version, tmp_path):
    """A base of bases, by a relative and an absolute path, in both of Detectron2's versions."""
    (tmp_path / "below").mkdir()
    key = {1: "WEIGHT", 2: "WEIGHTS"}[version]
    (tmp_path / "base.yaml").write_text(f"VERSION: {version}\nMODEL:\n  {key}: mine\nSEED: 3\n")
    (tmp_path / "below" / "middle.yaml").write_text("_BASE_: ../base.yaml\nSEED: 4\n")
    file = tmp_path / "top.yaml"
    middle = tmp_path / "below" / "middle.yaml"
    file.write_text(f"_BASE_: {middle}\nINPUT:\n  MIN_SIZE_TRAIN: !!python/tuple [1, 2]\n")
    ours, theirs = get_cfg(), get_cfg()
    merge_yaml(ours, str(file))
    theirs.merge_from_file(str(file))
    assert ours == theirs
    assert (ours.MODEL.WEIGHTS, ours.SEED) == ("mine", 4)
    assert ours.INPUT.MIN_SIZE_TRAIN == (1, 2)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("!!python/name:os.getcwd ''", "!!python/name:os.getcwd"),
        ("!!python/object/apply:eval ['[1]']", "!!python/object/apply:eval"),
        ("!!python/object/apply:eval [['[1]']]", "!!python/object/apply:eval"),
        ("!!python/object/apply:eval {args: ['1']}", "!!python/object/apply:eval"),
        ("!!python/tuple {a: 1}", "!!python/tuple"),
        ("!mine 3", "!mine"),
        ("!%0Amine 3", "!\\nmine"),
    ],
)
def test_other_tags_are_named(text, tag, tmp_path):
    file = tmp_path / "tagged.yaml"
    file.write_text(TAGGED.format(text))
    message = f"config {file}, line 2: the tag '{tag}' needs code to be read; nothing was run. "
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_config(str(file))
    assert len(str(error.value).splitlines()) == 1


def test_the_base_that_has_the_tag_is_named(tmp_path):
    (tmp_path / "base.yaml").write_text("\n\n" + TAGGED.format("!!python/name:os.getcwd ''"))
    file = tmp_path / "top.yaml"
    file.write_text("_BASE_: base.yaml\n")
    with pytest.raises(ValueError, match=r"base\.yaml, line 4: the tag"):
        load_config(str(file))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("- 1\n", ": not a YAML file of keys and values (it is list, not a mapping)"),
        ("", ": not a YAML file of keys and values (it is NoneType, not a mapping)"),
        ("SEED: 1\n SOLVER: [\n", ", line 2: not a YAML file of keys and values ("),
        ("SEED: 2001-99-99\n", ": not a YAML file of keys and values (month must be"),
        ("SEED: \x01\n", ": not a YAML file of keys and values (unacceptable character"),
        ("_BASE_: wrong.yaml\n", NESTED),
        ("SEED: " + 5000 * "[" + 5000 * "]", NESTED),
    ],
)
def test_what_is_no_config_is_named(content, problem, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{file}{problem}")) as error:
        load_config(str(file))
    assert len(str(error.value).splitlines()) == 1


def test_missing_base(tmp_path):
    file = tmp_path / "top.yaml"
    file.write_text("_BASE_: missing.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        load_config(str(file))


def test_yaml_that_is_read_again_is_the_same(tmp_path):
    """Values that YAML writes in more than one way, past both readings."""
    values = {"SOLVER": {"BASE_LR": 1e-5, "STEPS": [1, 2]}, "MODEL": {"WEIGHTS": "1e-4 é 文: #"}}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    cfg = load_config(str(file))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == (1e-5, (1, 2))
    assert values["MODEL"]["WEIGHTS"] == cfg.MODEL.WEIGHTS
