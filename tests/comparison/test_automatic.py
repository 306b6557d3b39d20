"""How --auto divides a data set, and the schedules that it chooses."""

import copy
import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from softpool_det.cli import compare
from softpool_det.cli.automatic import automatic_arms
from softpool_det.comparison.automatic import settings, split
from softpool_det.statistics.known_spread import read_known_spread

ROOT = Path(__file__).parents[2]


def made(objects, side=100):
    """A data set with so many objects in each image."""
    images = [
        {"id": 3 * i + 7, "file_name": f"{i}.png", "width": 2 * side, "height": side}
        for i in range(len(objects))
    ]
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 9, "bbox": [0, 0, 40, 40]}
        for n, image in enumerate(i for i, k in zip(images, objects, strict=True) for _ in range(k))
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 9, "name": "a"}]}


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.data())
def test_a_split_divides_images_with_their_objects(objects, drawn):
    data = made(objects)
    place = st.integers(0, len(objects) - 1)
    first, *others = drawn.draw(st.lists(place, min_size=1, max_size=3, unique=True))
    same = [(first, other) for other in others]
    before = copy.deepcopy(data)
    group = dict.fromkeys((first, *others), first)
    if len({group.get(place, place) for place, count in enumerate(objects) if count}) < 2:
        with pytest.raises(ValueError, match="a split needs two"):
            split(data, same)
        return
    parts = split(data, same)
    assert data == before
    assert parts == split(data, same)
    for key in ("images", "annotations"):
        entries = [entry for part in parts for entry in part[key]]
        assert sorted(entries, key=lambda entry: entry["id"]) == data[key]
    ids = [{image["id"] for image in part["images"]} for part in parts]
    for part, known in zip(parts, ids, strict=True):
        assert {entry["image_id"] for entry in part["annotations"]} <= known
        assert part["annotations"]
    for first, other in same:
        pair = {data["images"][place]["id"] for place in (first, other)}
        assert pair <= ids[0] or pair <= ids[1]


def test_one_image_in_five_is_tested_on():
    parts = split(made([1] * 50 + [0] * 50), [])
    assert [len(part["images"]) for part in parts] == [80, 20]
    assert [len(part["annotations"]) for part in parts] == [40, 10]


def values(*arguments):
    words = settings(*arguments).overrides
    return dict(zip(words[::2], map(yaml.safe_load, words[1::2]), strict=True))


@pytest.mark.parametrize(
    ("images", "side", "chosen", "on_gpu", "expected"),
    [
        (10, 100, {}, False, (8, 500, 0.001, 100)),
        (100, 600, {}, False, (4, 1000, 0.0005, 256)),
        (3, 600, {}, False, (3, 500, 0.000375, 256)),
        (1000, 2000, {}, True, (8, 6250, 0.001, 800)),
        (10, 100, {"SOLVER.IMS_PER_BATCH": "2", "SOLVER.MAX_ITER": "6"}, False, (2, 6, 25e-5, 100)),
        (1600, 600, {"MODEL.WEIGHTS": "w"}, True, (8, 2400, 0.005, 600)),
    ],
)
def test_the_schedule_follows_the_data(images, side, chosen, on_gpu, expected):
    found = values(made([1] * images, side), False, chosen, on_gpu)
    keys = ("SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER", "SOLVER.BASE_LR", "INPUT.MIN_SIZE_TEST")
    assert tuple(found[key] for key in keys) == pytest.approx(expected)
    assert len(found["MODEL.ANCHOR_GENERATOR.SIZES"][0]) == 3
    assert found["MODEL.ALLOW_OTHER_STEM_POOL"] == ("MODEL.WEIGHTS" in chosen)


def test_seeds_of_the_demos_recipe_are_known_to_differ():
    record = ROOT / "benchmarks" / "results" / "demo_digits_retinanet.json"
    known = settings(made([1, 2]), False, {}, False).known_spread
    assert known == pytest.approx(read_known_spread(record), abs=0.005)
    weights = {"MODEL.WEIGHTS": "weights.pth"}
    assert settings(made([1, 2]), False, weights, False).known_spread is None


def test_what_is_said():
    data = made([1] * 10, 1000)
    found = settings(data, False, {}, False)
    assert "from scratch" in found.notes[0]
    assert "500 iterations of 4 images (200.0 epochs)" in found.notes[1]
    assert "Half of the objects are smaller than 10 pixels" in found.notes[2]
    assert "differ by up to 4.12 AP" in found.notes[3]
    assert len(settings(made([1] * 10), False, {}, False).notes) == 3
    with pytest.raises(ValueError, match=r"SOLVER.MAX_ITER is 'x', must be a whole number"):
        settings(data, False, {"SOLVER.MAX_ITER": "x"}, False)


@pytest.fixture
def parsed(monkeypatch):
    def parse(*words):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
        return compare.parse_args()

    return parse


@pytest.mark.parametrize("masks", [False, True])
def test_arms_of_one_set(small_datasets, parsed, tmp_path, capsys, masks):
    folder = small_datasets / "digit_scenes_train"
    words = ["--auto", "--train-json", folder / "annotations.json"]
    words += ["--train-images", folder / "images", "--output", tmp_path]
    words += ["--masks"] if masks else []
    words += ["--", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "3"]
    configs = [arm.load(1) for arm in automatic_arms(parsed(*words), compare.NAMES)]
    said = capsys.readouterr().out
    assert "of 8 images one in 5 is kept for that, at random (seed 0): 6 to train on, 2" in said
    assert "Schedule: 3 iterations of 6 images" in said
    names = [cfg.MODEL.BACKBONE.NAME for cfg in configs]
    assert ["softpool" in name for name in names] == [False, True]
    for cfg in configs:
        assert (str(tmp_path / "data" / "split_val.json"),) == cfg.DATASETS.TEST
        assert (masks, 3) == (cfg.MODEL.MASK_ON, cfg.SOLVER.MAX_ITER)
        assert len(cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]) == (1 if masks else 3)
    before = [file.stat().st_mtime_ns for file in (tmp_path / "data").iterdir()]
    automatic_arms(parsed(*words), compare.NAMES)
    assert [file.stat().st_mtime_ns for file in (tmp_path / "data").iterdir()] == before


def test_one_image_under_two_names_is_not_tested_on(small_datasets, parsed, tmp_path):
    folder = shutil.copytree(small_datasets / "digit_scenes_train", tmp_path / "digits")
    data = json.loads((folder / "annotations.json").read_text())
    # The same four images by name, by content, and by name again.
    for image, other in zip(data["images"][4:], data["images"][:4], strict=True):
        shutil.copy(folder / "images" / other["file_name"], folder / "images" / image["file_name"])
    data["images"][5]["file_name"] = data["images"][4]["file_name"]
    (folder / "annotations.json").write_text(json.dumps(data))
    words = ["--auto", "--train-json", folder / "annotations.json"]
    args = parsed(*words, "--train-images", folder / "images", "--output", tmp_path)
    automatic_arms(args, compare.NAMES)
    names = []
    for file in (args.train_json, args.val_json):
        images = json.loads(Path(file[0]).read_text())["images"]
        files = (folder / "images" / image["file_name"] for image in images)
        names.append({hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert not names[0] & names[1]


def test_remarks_are_printed(small_datasets, parsed, tmp_path, capsys):
    folder = small_datasets / "digit_scenes_train"
    data = json.loads((folder / "annotations.json").read_text())
    data["categories"][1]["name"] = data["categories"][0]["name"]
    for place in range(12):
        data["annotations"][place]["bbox"][0] = -50
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(data))
    words = ["--auto", "--train-json", file, "--train-images", folder / "images"]
    automatic_arms(parsed(*words, "--output", tmp_path), compare.NAMES)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Remark")]
    assert f"Remark: {file}: two classes have one name; give them one id, or two names" in said
    assert said[-1].startswith("Remarks: ")
    assert len(said) == 11
    assert "anchor" not in "".join(said)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--masks"], r"without a segmentation: 1; leave out --masks .*MODEL=mask_rcnn"),
        (["--", "SOLVER.MAX_ITER", "x"], "SOLVER.MAX_ITER is 'x'"),
    ],
    ids=["masks", "key"],
)
def test_nothing_is_written_before_all_is_checked(small_datasets, parsed, tmp_path, words, error):
    folder = small_datasets / "digit_scenes_train"
    data = json.loads((folder / "annotations.json").read_text())
    del data["annotations"][0]["segmentation"]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(data))
    named = ["--auto", "--train-json", file, "--train-images", folder / "images"]
    with pytest.raises(ValueError, match=error):
        automatic_arms(parsed(*named, "--output", tmp_path / "output", *words), compare.NAMES)
    assert not (tmp_path / "output").exists()


def test_a_fault_ends_it_before_the_split(small_datasets, parsed, tmp_path):
    folder = small_datasets / "digit_scenes_train"
    data = json.loads((folder / "annotations.json").read_text())
    data["annotations"][1]["bbox"][2] = -1
    data["annotations"][2]["category_id"] = 99
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(data))
    words = ["--auto", "--train-json", file, "--train-images", folder / "images"]
    words += ["--output", tmp_path / "output"]
    with pytest.raises(ValueError, match=r"boxes\.json: entry 1 .*remove it \(faults: 2, "):
        automatic_arms(parsed(*words), compare.NAMES)
    with pytest.raises(ValueError, match=r"; INPUT\.SKIP_CORRUPT is for comparisons w"):
        automatic_arms(parsed(*words, "--", "INPUT.SKIP_CORRUPT", "True"), compare.NAMES)
    assert not (tmp_path / "output").exists()


def test_sets_to_test_on_are_checked_too(small_datasets, parsed, tmp_path):
    train, val = (small_datasets / f"digit_scenes_{part}" for part in ("train", "val"))
    words = ["--auto", "--train-json", train / "annotations.json", "--output", tmp_path / "output"]
    words += ["--train-images", train / "images", "--val-json", train / "annotations.json"]
    args = parsed(*words, "--val-images", train / "images")
    with pytest.raises(ValueError, match="it is in train and in val"):
        automatic_arms(args, compare.NAMES)
    file = tmp_path / "boxes.json"
    file.write_text((val / "annotations.json").read_text().replace("000000.png", "gone.png"))
    words[-1] = file
    args = parsed(*words, "--val-images", val / "images")
    with pytest.raises(ValueError, match=r"gone\.png"):
        automatic_arms(args, compare.NAMES)


def test_a_step_of_several_batches_is_a_large_batch():
    data = made([1] * 40)
    large, several = (
        settings(data, False, chosen, False)
        for chosen in (
            {"SOLVER.IMS_PER_BATCH": "8"},
            {"SOLVER.IMS_PER_BATCH": "2", "SOLVER.ACCUMULATE_STEPS": "4"},
        )
    )
    assert large.notes == several.notes
    place = large.overrides.index("SOLVER.IMS_PER_BATCH") + 1
    assert several.overrides[place] == "2"
    assert [*large.overrides[:place], *large.overrides[place + 1 :]] == [
        *several.overrides[:place],
        *several.overrides[place + 1 :],
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--auto"], "--auto needs --train-json and --train-images, --yolo or --voc"),
        (["--auto", "--yolo", "a", "--baseline", "b"], "--baseline is what --auto chooses"),
        (["--auto", "--yolo", "a", "--", "SEED"], "KEY VALUE pairs belong behind --, got SEED"),
        (["--masks"], "--masks goes with --auto"),
        (["--gt", "a", "--auto"], "--auto goes with configs, not with --gt"),
    ],
)
def test_options_that_do_not_fit(parsed, capsys, words, reason):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert reason in capsys.readouterr().err
