"""tools/check_data.py as a user runs it, on real images that something is wrong with."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from softpool_det.data_check.measures import ANCHOR_RATIOS, ANCHOR_SIZES, measure, outside


@pytest.fixture
def sets(small_datasets, tmp_path):
    """Copies of the small digit scenes to break: JSON and images by part."""
    found = {}
    for part in ("train", "val"):
        folder = shutil.copytree(small_datasets / f"digit_scenes_{part}", tmp_path / part)
        found[part] = folder / "annotations.json", folder / "images"
    return found


@pytest.fixture
def check(program_here, tmp_path, capsys):
    """Runs the program; gives its status, what it printed, and data.json."""

    def run(sets, *options):
        output = tmp_path / "output"
        words = [f"--{part}-{end}" for part in sets for end in ("json", "images")]
        paths = [path for pair in sets.values() for path in pair]
        given = [word for pair in zip(words, paths, strict=True) for word in pair]
        with pytest.raises(SystemExit) as end:
            program_here("tools/check_data.py", *given, *options, "--output", output)
        data = json.loads((output / "data.json").read_text())
        return end.value.code, capsys.readouterr().out, data

    return run


def changed(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return data


def faults(data, name):
    (found,) = (part["findings"] for part in data["sets"] if part["name"] == name)
    return [finding for finding in found if finding["is_fault"]]


def test_data_without_faults(sets, check, tmp_path):
    status, printed, data = check(sets)
    assert status == 0
    assert "faults: 0, remarks: 2" in printed
    train = data["sets"][0]["measures"]
    truth = json.loads(sets["train"][0].read_text())
    assert (train["images"], train["annotations"]) == (8, len(truth["annotations"]))
    assert sum(c["objects"] for c in train["classes"]) == len(truth["annotations"])
    assert sum(step["boxes"] for step in train["boxes"]["sides"]) == train["boxes"]["measured"]
    page = (tmp_path / "output" / "data.html").read_text()
    assert page.count("<figure") == 12
    assert "http" not in page.replace("http-equiv", "")


def test_every_fault_is_named_at_once(sets, check):
    path, folder = sets["val"]

    def spoil(data):
        annotations = data["annotations"]
        annotations[0]["bbox"][2] = math.nan
        annotations[1]["category_id"] = 99
        annotations[2]["id"] = annotations[3]["id"]

    images = changed(path, spoil)["images"]
    (folder / images[0]["file_name"]).unlink()
    (folder / images[1]["file_name"]).write_bytes(b"no image")
    with Image.open(folder / images[2]["file_name"]) as image:
        image.resize((30, 20)).save(folder / images[2]["file_name"])
    status, printed, data = check(sets)
    assert status == 1
    found = faults(data, "val")
    reasons = [f"{finding['entry']}: {finding['reason']}" for finding in found]
    assert len(found) == 6
    for reason, want in zip(
        reasons,
        [
            "must be [x, y, width, height], four finite numbers",
            "category_id is 99, must be one of the 10",
            "another entry before it has the same id",
            f"file not found: {folder / images[0]['file_name']}",
            "cannot be read as an image",
            "it is 30x20 pixels, its annotation says",
        ],
        strict=True,
    ):
        assert want in reason
    assert all(finding["remedy"] for finding in found)
    assert {finding["file"] for finding in found} == {str(path)}
    for place, finding in enumerate(found[3:]):
        assert finding["entry"] == f"entry {place} of images (id {images[place]['id']})"
        assert str(folder / images[place]["file_name"]) in finding["reason"]
    assert not faults(data, "train")
    assert printed.splitlines()[-1].startswith("faults: 6, ")


def test_remarks_of_what_is_right_beside_faults(sets, check):
    def spoil(data):
        data["annotations"][0]["bbox"] = None
        data["annotations"][1]["bbox"][2] = 0
        data["annotations"][2]["bbox"][0] += 1000
        x, y, width, height = data["annotations"][3]["bbox"]
        data["annotations"][3]["bbox"] = [x, y, x + width, y + height]
        data["annotations"][4]["bbox"] = [-20, y, x + width, y + height]

    truth = changed(sets["val"][0], spoil)
    status, printed, data = check(sets)
    assert status == 1
    val = data["sets"][1]
    assert val["measures"]["annotations"] == len(truth["annotations"]) - 1
    beyond = [f for f in val["findings"] if "reaches beyond the image" in f["reason"]]
    assert [f["entry"].split(" (")[0] for f in beyond] == [
        f"entry {n} of annotations" for n in (2, 3, 4)
    ]
    assert ["read as x1, y1, x2, y2 it fits" in f["reason"] for f in beyond] == [
        n == 3 for n in (2, 3, 4)
    ]
    assert "remark: " in printed
    assert "boxes without an area: 1" in printed
    assert "follow when" not in printed


def test_the_page_has_all_and_the_terminal_a_hundred(sets, check, tmp_path):
    def spoil(data):
        data["annotations"] = [{**data["annotations"][0], "id": n, "bbox": 1} for n in range(250)]

    changed(sets["val"][0], spoil)
    _, printed, data = check(sets, "--no-images")
    assert (len(faults(data, "val")), printed.count("fault: ")) == (250, 100)
    assert re.search(r"\.\.\. and 1\d\d more in .*data\.json\n", printed)
    assert (tmp_path / "output" / "data.html").read_text().count(">fault<") == 250


def test_heads_of_columns_of_text_are_above_it(sets, check, tmp_path):
    check(sets, "--no-images")
    page = (tmp_path / "output" / "data.html").read_text()
    assert page.count('<th scope="col" class="text">what to do</th>') == 2


def test_annotations_alone(sets, check, tmp_path):
    assert check(sets, "--no-images")[0] == 0
    assert "<figure" not in (tmp_path / "output" / "data.html").read_text()
    shutil.rmtree(sets["val"][1])
    sets["val"][1].mkdir()
    status, _, data = check(sets)
    assert status == 1
    (finding,) = faults(data, "val")
    assert f"none of its 6 images is in {sets['val'][1]}" in finding["reason"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_path_that_is_not_there(sets, program_here, tmp_path, place):
    wrong = tmp_path / "nowhere"
    given = ["--train-json", sets["train"][0], "--train-images", sets["train"][1]]
    pair = [wrong if n == place else path for n, path in enumerate(sets["val"])]
    given += ["--val-json", pair[0], "--val-images", pair[1], "--output", tmp_path / "output"]
    with pytest.raises(SystemExit, match=rf"{wrong}.* is not a (file|folder); it must be"):
        program_here("tools/check_data.py", *given)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "the list 'images' is missing"),
        ("{", "not a JSON file"),
        ('{"images": [], "categories": []}', "the list 'images' is empty"),
    ],
)
def test_what_is_not_coco(sets, check, content, reason):
    sets["val"][0].write_text(content)
    status, _, data = check(sets)
    assert status == 1
    (finding,) = faults(data, "val")
    assert reason in finding["reason"]


def test_wrong_ids(sets, check):
    def spoil(data):
        data["images"][1]["id"] = data["images"][0]["id"]
        data["categories"][2]["id"] = [1]
        data["annotations"][0]["id"] = None

    changed(sets["val"][0], spoil)
    _, printed, data = check(sets)
    assert "\nval: its images and remarks follow when its faults are mended\n" in printed
    reasons = [finding["reason"] for finding in faults(data, "val")]
    assert [reason.split(" ")[0] for reason in reasons] == ["another", "id", "id"]


def test_images_in_both_sets(sets, check):
    source = next(iter(sorted(sets["train"][1].glob("*.png"))))
    for name in ("train", "val"):
        path, folder = sets[name]
        copy = shutil.copy(source, folder / "copy.png")
        with Image.open(copy) as image:
            width, height = image.size
        changed(
            path,
            lambda data, size=(width, height): data["images"].append(
                {"id": 999, "file_name": "copy.png", "width": size[0], "height": size[1]}
            ),
        )
    status, printed, data = check(sets)
    assert status == 1
    between = [(f["is_fault"], f["reason"]) for f in data["across"]]
    # The copy in train is one of its own set's, and the one in val of train's.
    assert sorted(is_fault for is_fault, _ in between) == [False, True]
    assert any(reason.endswith(", of train") for _, reason in between)
    assert "AP on images that were trained on is too high" in printed
    assert check({"train": sets["train"], "val": sets["train"]})[0] == 1


def test_images_in_two_training_sets(sets, program_here, tmp_path, capsys):
    path, folder = sets["train"]
    other = shutil.copy(path, path.with_name("other.json"))
    given = ["--train-json", path, "--train-images", folder, "--train-json", other]
    with pytest.raises(SystemExit) as end:
        program_here("tools/check_data.py", *given, "--train-images", folder, "--output", tmp_path)
    assert end.value.code == 0
    assert "it is in train 1 and in train 2; keep one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda im, f: Image.new("F", im.size).save(f, "TIFF"), "mode F does not say which value"),
        (
            lambda im, f: im.save(f, "GIF", save_all=True, append_images=[Image.new("P", im.size)]),
            "it has 2 frames or pages",
        ),
        (lambda im, f: Image.new("1", (12000, 12000)).save(f, "PNG"), "pixels, more than 89478485"),
        (lambda im, f: f.mkdir(), "it is not a regular file"),
    ],
)
def test_images_that_no_training_reads(sets, check, save, reason):
    path, folder = sets["val"]
    file = folder / json.loads(path.read_text())["images"][0]["file_name"]
    with Image.open(file) as image:
        image.load()
    file.unlink()
    save(image, file)
    status, _, data = check(sets)
    assert status == 1
    (finding,) = faults(data, "val")
    assert reason in finding["reason"]


CROWD = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1}


@pytest.mark.parametrize("annotations", [[], [CROWD]], ids=len)
def test_nothing_to_train_on(sets, check, annotations):
    for name in ("train", "val"):
        changed(sets[name][0], lambda data: data.update(annotations=annotations))
    status, printed, data = check(sets)
    assert status == 1
    assert [f["reason"] for f in faults(data, "train")] == ["it has no object to train on"]
    assert f"remark: {sets['val'][0]}: it has no object to test on; annotate some" in printed
    assert not faults(data, "val")


def test_strange_but_right(sets, check):
    """Ids as text, one name twice, a huge box, no size, a path too long, words no console has."""

    def change(data):
        for category in data["categories"]:
            category["id"] = f"c{category['id']}"
        data["categories"][0]["name"] = data["categories"][1]["name"] = "\x1b[31m\u6811"
        for annotation in data["annotations"]:
            annotation["category_id"] = f"c{annotation['category_id']}"
        data["annotations"][0]["bbox"] = [1e20, 1e20, 1e20, 1e20]
        for image in data["images"]:
            image["width"] = image["height"] = None

    for name in ("train", "val"):
        changed(sets[name][0], change)
    status, printed, data = check(sets)
    assert status == 0
    assert "\x1b" not in printed
    reasons = " ".join(finding["reason"] for finding in data["sets"][1]["findings"])
    assert "two classes have one name" in reasons
    assert "reaches beyond the image" in reasons
    changed(sets["val"][0], lambda data: data["images"][0].update(file_name="a" * 300 + ".png"))
    status, _, data = check(sets)
    assert [f["reason"].count("File name too long") for f in faults(data, "val")] == [1]


def test_other_categories(sets, check):
    changed(sets["val"][0], lambda data: data["categories"][0].update(name="dog"))
    status, _, data = check(sets)
    assert status == 1
    assert "'dog'" in data["across"][0]["reason"]


def test_remarks(sets, check):
    path, folder = sets["val"]

    def spoil(data):
        data["annotations"][0]["bbox"][0] += 1000
        data["annotations"][1]["bbox"][2] = 0

    images = changed(path, spoil)["images"]
    for place, mode in ((0, "RGBA"), (1, "RGB")):
        file = folder / images[place]["file_name"]
        with Image.open(file) as image:
            turned = image.convert(mode)
            exif = image.getexif()
        exif[0x0112] = 3 if place else 1
        turned.save(file, exif=exif)
    status, _, data = check(sets)
    assert status == 0
    reasons = " | ".join(finding["reason"] for finding in data["sets"][1]["findings"])
    for want in (
        "its mode is RGBA",
        "EXIF orientation 3 turns it",
        "reaches beyond the image",
        "boxes without an area: 1",
        "classes with fewer than 10 objects, 10 of 10",
    ):
        assert want in reasons


def test_boxes_that_are_fractions(sets, check):
    def divide(data):
        for entry in data["annotations"]:
            entry["bbox"] = [length / 128 for length in entry["bbox"]]

    changed(sets["train"][0], divide)
    _, printed, _ = check(sets)
    assert "have no anchor of RetinaNet's shapes and sizes; write boxes in pixels" in printed


def made(boxes, size=(640, 480)):
    return {
        "images": [{"id": 1, "width": size[0], "height": size[1]}],
        "categories": [{"id": 7, "name": "a"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7, "bbox": box} for i, box in enumerate(boxes)
        ],
    }


def test_sizes_and_anchors_against_the_definition():
    rng = np.random.default_rng(0)
    boxes = np.exp(rng.uniform(0, 6, (50, 4)))
    found = measure(made(boxes.tolist()), min_size=800, max_size=1333)["boxes"]
    scale = min(800 / 480, 1333 / 640)
    low = doubtful = 0
    for _, _, width, height in boxes * scale:
        best = 0
        for size in ANCHOR_SIZES:
            for ratio in ANCHOR_RATIOS:
                w, h = size / ratio**0.5, size * ratio**0.5
                common = min(w, width) * min(h, height)
                best = max(best, common / (w * h + width * height - common))
        low += best < 0.4
        doubtful += 0.4 <= best < 0.5
    assert (found["without_anchor"], found["with_doubtful_anchor"]) == (low, doubtful)
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert found["small"] == (sides < 32).sum()
    assert found["side"]["median"] == pytest.approx(scale * np.median(sides))


def test_a_pixel_outside_is_let_pass():
    data = made([[0, 0, 640, 480], [-1, 0, 642, 480], [-1.5, 0, 5, 5], [600, 0, 42, 9]])
    assert outside(data) == [2, 3]


def test_a_set_without_objects():
    found = measure(made([]), min_size=800, max_size=1333)
    assert found["images_without_objects"] == 1
    assert found["boxes"]["measured"] == 0
    assert outside(made([])) == []


def test_wrong_options(program_here, capsys):
    for words, text in (
        ([], "give --train-json and --train-images"),
        (2 * ["--val-json", "a", "--val-images", "b"], "a file is given twice"),
        (["--train-json", "a.json"], "each --train-json needs its --train-images"),
        (["--min-size", 0, "--val-json", "a", "--val-images", "b"], "must be 1 or more"),
    ):
        with pytest.raises(SystemExit) as end:
            program_here("tools/check_data.py", *words)
        assert end.value.code == 2
        assert text in capsys.readouterr().err
