"""Programs on a user's own files: COCO's JSON and a folder of images, registered nowhere."""

import argparse
import json
import re
import shutil
import sys

import pytest
from detectron2.config import LazyConfig
from omegaconf import OmegaConf
from running import RETINANET, TINY

from softpool_det.cli import compare
from softpool_det.cli.program import DATA_OPTIONS, data_overrides
from softpool_det.comparison.arms import Arm, Run
from softpool_det.config import load_config
from softpool_det.datasets import use_json_files
from softpool_det.datasets.json_files import class_remarks
from softpool_det.io.data_errors import DataError
from softpool_det.training.predictor import Predictor

SHORT = [*TINY, "SOLVER.MAX_ITER", 3]


def renamed(source, folder):
    """A data set as a stranger has it: ids with gaps, other names, a space in the path."""
    shutil.copytree(source / "images", folder / "my photos")
    data = json.loads((source / "annotations.json").read_text())
    for category in data["categories"]:
        category |= {"id": 10 * category["id"] + 3, "name": f"number {category['name']}"}
    for annotation in data["annotations"]:
        annotation["category_id"] = 10 * annotation["category_id"] + 3
    (folder / "my boxes.json").write_text(json.dumps(data))
    return folder / "my boxes.json", folder / "my photos"


@pytest.fixture(scope="module")
def own(small_datasets, tmp_path_factory):
    """Files and folders by part."""
    root = tmp_path_factory.mktemp("it's mine")
    found = {}
    for part in ("train", "val"):
        (root / part).mkdir()
        found[part] = renamed(small_datasets / f"digit_scenes_{part}", root / part)
    return found


def options(own, *parts):
    found = []
    for part in parts:
        file, folder = own[part]
        found += [f"--{part}-json", file, f"--{part}-images", folder]
    return found


def overrides(own, *parts):
    found = []
    for part in parts:
        key = {"train": "TRAIN", "val": "TEST"}[part]
        paths = zip(("JSON", "IMAGES"), own[part], strict=True)
        found += [word for end, path in paths for word in (f"DATASETS.{key}_{end}", (str(path),))]
    return list(map(str, found))


def metrics(folder):
    return json.loads((folder / "result.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def trained(own, train_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    given = options(own, "train", "val")
    train_here("--config-file", RETINANET, *given, *SHORT, "OUTPUT_DIR", folder)
    return folder


def by_class(folder):
    """AP without the names of the classes."""
    return {re.sub(r"number ", "", key): value for key, value in metrics(folder)["bbox"].items()}


def test_trains_as_on_the_registered_data(trained, train_here, tmp_path):
    train_here("--config-file", RETINANET, *SHORT, "OUTPUT_DIR", tmp_path)
    assert by_class(trained) == by_class(tmp_path)
    log = (trained / "log.txt").read_text()
    line = "Your data: 10 classes (number 0, number 1, number 2, number 3, number 4, ...), "
    assert f"{line}8 images to train on, 6 images to test on" in log
    detections = json.loads((trained / "inference/coco_instances_results.json").read_text())
    assert {entry["category_id"] % 10 for entry in detections} == {3}


def test_the_runs_config_is_complete(trained, train_here, tmp_path):
    given = ["MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR", tmp_path]
    train_here("--config-file", trained / "config.yaml", "--eval-only", *given)
    assert json.loads((tmp_path / "evaluation.json").read_text())["metrics"] == metrics(trained)


def test_pictures_have_the_names(trained, own, program_here, tmp_path):
    picture = next(iter(sorted(own["val"][1].iterdir())))
    given = ["--config-file", trained / "config.yaml", "--input", picture, "--output"]
    program_here("tools/visualize.py", *given, tmp_path / "drawn.png", "--score-threshold", 0)
    assert (tmp_path / "drawn.png").stat().st_size > 1000


def test_a_lazy_config_takes_them_too(own, train_here, lazy_config, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(lazy_config.replace("model.num_classes = ", "train.classes_before = "))
    given = [*options(own, "train", "val"), f"train.output_dir={tmp_path}", "train.device=cpu"]
    train_here("--config-file", config, "--trust-lazy-config", *given)
    assert set(metrics(tmp_path)["bbox"]) > {"AP", "AP-number 9"}


def test_all_arms_get_them(own, monkeypatch):
    words = ["--baseline", RETINANET, "--candidate", RETINANET, *options(own, "train", "val")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    for arm in compare.parse_arms(compare.parse_args()):
        assert (str(own["val"][0]),) == arm.load(1).DATASETS.TEST


def test_another_number_of_classes_is_remarked_on(own, trained, caplog):
    Predictor(trained, overrides=["MODEL.RETINANET.NUM_CLASSES", "5"])
    remark = "MODEL.RETINANET.NUM_CLASSES 5 was given, the data have 10: 10 is used"
    assert remark in caplog.messages
    cfg = use_json_files(load_config(str(RETINANET), overrides(own, "train")))
    assert class_remarks(cfg, ["MODEL.RETINANET.NUM_CLASSES", "10", "SEED", "5"]) == []
    lazy = OmegaConf.create({"model": {"num_classes": 10}})
    (remark,) = class_remarks(lazy, ["train.seed=5", "model.num_classes=5"])
    assert remark.startswith("model.num_classes 5 was given")


@pytest.mark.parametrize("crowds", [False, True])
def test_nothing_is_annotated(own, train_here, tmp_path, crowds):
    """Said before a config is printed, or a folder made."""
    data = json.loads(own["train"][0].read_text())
    crowd = {**data["annotations"][0], "iscrowd": 1}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({**data, "annotations": [crowd] if crowds else []}))
    given = options({"train": (path, own["train"][1])}, "train")
    reason = rf"^error: {path}: it has no object to train on; annotate some$"
    with pytest.raises(SystemExit, match=reason):
        train_here("--config-file", RETINANET, *given, *SHORT, "OUTPUT_DIR", tmp_path / "run")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_compares_arms_on_them(own, program_here, train_here, tmp_path):
    given = ["--output", tmp_path, *options(own, "train", "val"), "--resamples", 20]
    for name, pooling in (("beta 1", 1.0), ("beta 4", 4.0)):
        given += ["--arm", name, RETINANET, "MODEL.STEM_POOL.BETA", pooling]
    program_here("tools/compare.py", *given, "--", *SHORT)
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert data["names"] == ["beta 1", "beta 4"]
    truth = next(f for f in data["provenance"]["files"] if f["what"] == "ground truth")
    assert truth["path"].endswith("my boxes.json")


def test_without_a_test_set_nothing_is_evaluated(own, train_here, tmp_path):
    given = [*options(own, "train"), *SHORT, "MODEL.RETINANET.NUM_CLASSES", 5]
    train_here("--config-file", RETINANET, *given, "OUTPUT_DIR", tmp_path)
    assert metrics(tmp_path) == {}
    log = (tmp_path / "log.txt").read_text()
    assert "no test set, so that nothing is evaluated" in log
    assert "MODEL.RETINANET.NUM_CLASSES 5 was given, the data have 10: 10 is used" in log


def test_several_files_of_one_set(own):
    paths = [own["train"], own["val"]]
    words = ["DATASETS.TRAIN_JSON", str(tuple(str(file) for file, _ in paths))]
    words += ["DATASETS.TRAIN_IMAGES", str(tuple(str(folder) for _, folder in paths))]
    cfg = use_json_files(load_config(str(RETINANET), words))
    assert tuple(str(file) for file, _ in paths) == cfg.DATASETS.TRAIN
    assert (cfg.DATASETS.TEST, cfg.MODEL.RETINANET.NUM_CLASSES) == ((), 10)


def change(path, entry):
    data = json.loads(path.read_text())
    entry(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda f: f[0].unlink(),
            r"TEST_JSON: .*boxes\.json is not a file; it must be COCO's JSON",
        ),
        (lambda f: shutil.rmtree(f[1]), r"TEST_IMAGES: .*my photos is not a folder"),
        (lambda f: f[0].write_text("{}"), r"boxes\.json: the list 'categories' is missing"),
        (
            lambda f: change(f[0], lambda d: d["categories"][0].update(name="dog")),
            r"has other categories \(id, name\) than .*: \[\(13, 'dog'\)\] in place of "
            r"\[\(13, 'number 0'\)\]",
        ),
        (
            lambda f: change(f[0], lambda d: d["categories"].append(dict(d["categories"][0]))),
            r"entry 10 of categories \(id 13\): another entry before it has the same id",
        ),
    ],
)
def test_says_what_is_wrong_with_them(own, small_datasets, fault, message, tmp_path):
    files = renamed(small_datasets / "digit_scenes_val", tmp_path)
    words = overrides({**own, "val": files}, "train", "val")
    fault(files)
    with pytest.raises(DataError, match=message):
        use_json_files(load_config(str(RETINANET), words))


def test_each_file_needs_its_folder(own):
    words = overrides(own, "val")[:2]
    message = r"files in DATASETS\.TEST_JSON: 1, folders in DATASETS\.TEST_IMAGES: 0; each file"
    with pytest.raises(DataError, match=message):
        use_json_files(load_config(str(RETINANET), words))


def test_one_file_with_two_folders(own, tmp_path):
    words = [*overrides(own, "val"), "DATASETS.TRAIN_JSON", f"({str(own['val'][0])!r},)"]
    words += ["DATASETS.TRAIN_IMAGES", f"({str(tmp_path)!r},)"]
    with pytest.raises(DataError, match=r"boxes\.json is given with two folders of images"):
        use_json_files(load_config(str(RETINANET), words))


def test_the_saved_paths_are_absolute(own, monkeypatch):
    monkeypatch.chdir(own["val"][0].parent)
    words = ["DATASETS.TEST_JSON", "('my boxes.json',)", "DATASETS.TEST_IMAGES", "('my photos',)"]
    words += ["DATASETS.TRAIN_JSON", "('gone.json',)", "DATASETS.TRAIN_IMAGES", "('gone',)"]
    # Without a training the files of one need not be there.
    cfg = use_json_files(load_config(str(RETINANET), words), training=False)
    assert (str(own["val"][0]),) == cfg.DATASETS.TEST_JSON
    assert (str(own["val"][1]),) == cfg.DATASETS.TEST_IMAGES


def test_a_file_that_changed_is_another_run(own, small_datasets, tmp_path):
    files = renamed(small_datasets / "digit_scenes_val", tmp_path)
    words = overrides({**own, "val": files}, "train", "val")
    run = Run(Arm("a", str(RETINANET), tuple(words)), 1, tmp_path / "run" / "seed_1")
    for _ in range(2):
        with run.claimed():
            pass
    change(files[0], lambda data: data["annotations"].pop())
    with pytest.raises(FileExistsError, match="holds a run of another config"), run.claimed():
        pass


@pytest.mark.parametrize("name", ["a b,c=d", "it's", "b\\c", "b\\\\'c\\", "${x}", 'a"b', "[1]"])
def test_any_path_comes_through_an_override(name):
    empty = {key: [] for key in DATA_OPTIONS}
    args = argparse.Namespace(**{**empty, "train_json": [name, "x"]})
    lazy = LazyConfig.apply_overrides(OmegaConf.create({}), data_overrides(args, "config.py"))
    assert list(lazy.datasets.train_json) == [name, "x"]
    cfg = load_config(str(RETINANET), data_overrides(args, "config.yaml"))
    assert (name, "x") == cfg.DATASETS.TRAIN_JSON


def test_of_three_sets_the_second_is_for_choosing():
    empty = {key: [] for key in DATA_OPTIONS}
    given = {"train_json": ["a"], "val_json": ["b"], "test_json": ["c"], "limit_images": 5}
    args = argparse.Namespace(**{**empty, **given})
    datasets = load_config(str(RETINANET), data_overrides(args, "config.yaml")).DATASETS
    found = datasets.TRAIN_JSON, datasets.VALIDATION_JSON, datasets.TEST_JSON
    assert (found, datasets.LIMIT_IMAGES) == ((("a",), ("b",), ("c",)), 5)
    lazy = LazyConfig.apply_overrides(OmegaConf.create({}), data_overrides(args, "config.py"))
    assert (lazy.datasets.validation_json, lazy.datasets.limit_images) == (["b"], 5)


def test_a_training_needs_data(own, train_here, tmp_path):
    given = [*options(own, "val"), *SHORT, "OUTPUT_DIR", tmp_path]
    with pytest.raises(SystemExit, match="nothing to train on; name a data set"):
        train_here("--config-file", RETINANET, *given)
