"""YOLO's data sets as COCO's, read from real files."""

import pytest
from PIL import Image

from softpool_det.coco.yolo import read_yolo
from softpool_det.io.data_errors import DataError

DATA = "path: .\ntrain: images/train\nval: images/val\nnames: {0: tree, 1: bush}\n"


@pytest.fixture
def put(tmp_path):
    """Writes an image of 40x20 pixels, and its labels."""

    def write(name, labels=None, part="train", exif=None):
        image, file = (tmp_path / folder / part / name for folder in ("images", "labels"))
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(image, exif=exif or Image.Exif())
        if labels is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".txt").write_text(labels)

    (tmp_path / "data.yaml").write_text(DATA)
    write("v.png", "0 0.5 0.5 1 1\n", "val")
    return write


def test_boxes_polygons_and_backgrounds(put, tmp_path):
    put("b.png", "1 0.5 0.5 0.5 0.2\n\n0 0.1 0.1 0.9 0.1 0.9 0.6\n")
    put("sub/c.png", "1.0 0.25 0.5 0.1 0.1")
    put("a.jpg")
    put("d.png", "")
    sets = read_yolo(tmp_path / "data.yaml")
    data, images = sets["train"]
    assert images == tmp_path / "images" / "train"
    assert [i["file_name"] for i in data["images"]] == ["a.jpg", "b.png", "d.png", "sub/c.png"]
    assert data["categories"] == [{"id": 1, "name": "tree"}, {"id": 2, "name": "bush"}]
    box, polygon, last = data["annotations"]
    assert box == {
        "id": 1,
        "image_id": 2,
        "category_id": 2,
        "iscrowd": 0,
        "bbox": [10, 8, 20, 4],
        "area": 80,
    }
    assert polygon["segmentation"] == [[4, 2, 36, 2, 36, 12]]
    assert (polygon["bbox"], polygon["area"]) == ([4, 2, 32, 10], 160)
    assert (last["image_id"], last["category_id"]) == (4, 2)
    assert sets["val"][0]["annotations"][0]["bbox"] == [0, 0, 40, 20]


def test_labels_are_of_the_turned_image(put, tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    put("a.jpg", "0 0.5 0.5 0.5 0.25", exif=exif)
    data, _ = read_yolo(tmp_path / "data.yaml")["train"]
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (20, 40)
    assert data["annotations"][0]["bbox"] == [5, 15, 10, 10]


def test_ways_to_name_images(put, tmp_path):
    put("a.png", "0 0.5 0.5 0.5 0.5")
    path = tmp_path / "data.yaml"
    # Roboflow's, of what lies beside the file.
    path.write_text("train: ../images/train\nnames: [tree]\n")
    assert set(read_yolo(path)) == {"train"}
    path.write_text("train: [images/train, images/val, images/val]\nnames: [tree]\n")
    data, images = read_yolo(path)["train"]
    assert [image["file_name"] for image in data["images"]] == ["train/a.png", "val/v.png"]
    assert images == tmp_path / "images"
    (tmp_path / "list.txt").write_text("./images/train/a.png\n\n")
    path.write_text("train: list.txt\nnames: [tree]\n")
    assert [i["file_name"] for i in read_yolo(path)["train"][0]["images"]] == ["a.png"]


def test_keypoints_are_passed_over(put, tmp_path):
    put("a.png", "0 0.5 0.5 0.5 0.5 0.1 0.1 0.2 0.2")
    (tmp_path / "data.yaml").write_text(DATA + "kpt_shape: [2, 2]\n")
    assert read_yolo(tmp_path / "data.yaml")["train"][0]["annotations"][0]["bbox"] == [
        10,
        5,
        20,
        10,
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", r"class 2 is not one of the 2 in .*data\.yaml"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not one of the 2"),
        ("0.5 0.5 0.5 0.1 0.1", r"class 0\.5 is not one of the 2"),
        ("nan 0.5 0.5 0.1 0.1", "class nan is not one of the 2"),
        ("0 20 10 5 5", "20 is not between 0 and 1; divide x and widths by the image's width, 40"),
        ("0 0.5 0.5 -0.1 0.1", r"-0\.1 is not between"),
        ("0 0.5 nan 0.1 0.1", "nan is not between"),
        ("0 0.5 0.5 0.1", "it has 4 values; a line is: class x y width height"),
        ("0 0.5 0.5 0.1 0.1 0.9", "it has 6 values"),
        ("tree 0.5 0.5 0.1 0.1", "not all of it is numbers"),
        ("0 \u00bd 0.5 0.1 0.1", "not all of it is numbers"),
    ],
)
def test_faults_name_file_and_line(put, tmp_path, line, reason):
    put("a.png", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=rf"labels/train/a\.txt, line 2: {reason}") as error:
        read_yolo(tmp_path / "data.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train: [", r"data\.yaml, line 1: "),
        ("a: 1\nb: !!python/object/apply:os.system [touch x]", "line 2: .*nothing in it was run"),
        ("a: 2026-99-99", "plain keys and values"),
        ("- 1", "it holds list, must be YOLO's"),
        ("train: images/train", "names is None, must list the classes, from 0 on"),
        ("names: {1: a}\ntrain: images/train", "names is {1: 'a'}, must list"),
        ("names: [yes, no]\ntrain: images/train", "names holds True, must be text; put it in quo"),
        ("names: [a]", "train and val are missing"),
        ("names: [a]\ntrain: gone", "train names .*gone, neither a folder of images nor a .txt"),
        ("names: [a]\ntrain: labels/val", "train has no images in .*labels/val"),
        ("names: [a]\ntrain: images/train", r"no image of train has labels.*labels/train/a\.txt"),
    ],
)
def test_faults_of_the_yaml(put, tmp_path, text, reason, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put("a.png")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=reason) as error:
        read_yolo(tmp_path / "data.yaml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()
