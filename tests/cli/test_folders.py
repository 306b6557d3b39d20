"""--yolo and --voc of the programs, on real images."""

import argparse
import json

import pytest
from PIL import Image

from softpool_det.cli.folders import use_folders


@pytest.fixture
def yolo(small_datasets, tmp_path):
    """The small digit scenes as a YOLO data set."""
    root = tmp_path / "my digits"
    for part in ("train", "val"):
        source = small_datasets / f"digit_scenes_{part}"
        data = json.loads((source / "annotations.json").read_text())
        for folder in ("images", "labels"):
            (root / part / folder).mkdir(parents=True)
        for image in data["images"]:
            name, (width, height) = image["file_name"], (image["width"], image["height"])
            with Image.open(source / "images" / name) as opened:
                opened.save(root / part / "images" / name)
            lines = []
            for entry in data["annotations"]:
                if entry["image_id"] == image["id"]:
                    x, y, w, h = entry["bbox"]
                    center = (x + w / 2) / width, (y + h / 2) / height
                    box = *center, w / width, h / height
                    lines.append(" ".join(map(str, (entry["category_id"] - 1, *box))))
            labels = root / part / "labels" / name
            labels.with_suffix(".txt").write_text("\n".join(lines))
    names = [str(digit) for digit in range(10)]
    (root / "data.yaml").write_text(f"train: train/images\nval: val/images\nnames: {names}\n")
    return root / "data.yaml"


def options(**given):
    empty = {"train_json": [], "val_json": [], "yolo": None, "voc": None}
    return argparse.Namespace(**{**empty, **given})


def test_the_boxes_are_those_of_the_data(yolo, small_datasets, tmp_path, capsys):
    args = options(yolo=yolo)
    use_folders(args, tmp_path / "output")
    assert args.train_json == [str(tmp_path / "output" / "data" / "train.json")]
    assert args.val_images == [str(yolo.parent / "val" / "images")]
    found, truth = (
        json.loads(path.read_text())
        for path in (
            tmp_path / "output" / "data" / "train.json",
            small_datasets / "digit_scenes_train" / "annotations.json",
        )
    )
    assert [i["file_name"] for i in found["images"]] == [i["file_name"] for i in truth["images"]]
    for mine, given in zip(found["annotations"], truth["annotations"], strict=True):
        assert mine["bbox"] == pytest.approx(given["bbox"], abs=1e-3)
        assert mine["category_id"] == given["category_id"]
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{yolo} as COCO's JSON: 8 images with {len(truth['annotations'])} objects in " in line


def test_unchanged_files_stay(yolo, tmp_path):
    times = []
    for _ in range(2):
        use_folders(options(yolo=yolo), tmp_path)
        times.append([path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()])
    assert times[0] == times[1]


def test_a_fault_leaves_nothing(yolo, tmp_path):
    label = next((yolo.parent / "val" / "labels").iterdir())
    label.write_text("0 1 2")
    with pytest.raises(ValueError, match=r"\.txt, line 1: it has 3 values"):
        use_folders(options(yolo=yolo), tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_one_data_set_at_a_time(yolo, tmp_path):
    with pytest.raises(ValueError, match="--yolo and --train-json name data sets each"):
        use_folders(options(yolo=yolo, train_json=["a"]), tmp_path)


def test_checks_it(yolo, program_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        program_here("tools/check_data.py", "--yolo", yolo, "--output", tmp_path / "output")
    assert end.value.code == 0
    assert "faults: 0" in capsys.readouterr().out


def test_wrong_data_end_in_a_line(yolo, program_here, tmp_path):
    yolo.write_text("names: [a]")
    with pytest.raises(SystemExit, match=r"^error: .*data\.yaml: train and val are missing"):
        program_here("tools/check_data.py", "--yolo", yolo, "--output", tmp_path / "output")
    config = "configs/demo/digits_retinanet_R_18_FPN.yaml"
    given = ["--yolo", yolo, "OUTPUT_DIR", tmp_path / "output"]
    with pytest.raises(SystemExit, match=r"^error: .*data\.yaml: train and val are missing"):
        program_here("tools/train_net.py", "--config-file", config, *given)
