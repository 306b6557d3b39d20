"""Pascal VOC's data sets as COCO's, read from real files."""

import shutil

import pytest
from PIL import Image

from softpool_det.coco.voc import parse_voc, read_voc
from softpool_det.io.data_errors import DataError

VOC = b"""<annotation><object><name>Tree</name>
<bndbox><xmin>%b</xmin><ymin>1</ymin><xmax>400</xmax><ymax>20</ymax></bndbox>
</object></annotation>"""


def test_boxes_count_from_zero():
    assert parse_voc(VOC % b"5") == ((0, 0), ["Tree"], [[4, 0, 400, 20]])
    assert parse_voc(VOC % b"5.5").boxes == [[4.5, 0, 400, 20]]
    assert parse_voc(b"<annotation/>").boxes == []


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param(VOC % b"five", id="no number"),
        pytest.param(VOC % b"nan", id="not finite"),
        pytest.param(VOC % b"", id="empty"),
        pytest.param(VOC[:-5] % b"5", id="truncated"),
        pytest.param(b'<!DOCTYPE a [<!ENTITY b "5">]>' + VOC % b"&b;", id="entity"),
        pytest.param(b"<!-- c --><!DOCTYPE a><a/>", id="doctype"),
        pytest.param('<!DOCTYPE a [<!ENTITY b "5">]><a>&b;</a>'.encode("utf-16"), id="UTF-16"),
    ],
)
def test_wrong_files_are_refused(xml):
    with pytest.raises(ValueError, match="xml"):
        parse_voc(xml)


def annotation(name="tree", box=(3, 1, 30, 20), size=(40, 30)):
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
    sides = f"<width>{size[0]}</width><height>{size[1]}</height>"
    named = f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"
    return f"<annotation><filename>old.jpg</filename><size>{sides}</size>{named}</annotation>"


@pytest.fixture
def put(tmp_path):
    """Writes an image of 40x30 pixels and its annotation."""

    def write(stem, text, annotations="Annotations", images="JPEGImages"):
        for folder in (annotations, images):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / images / f"{stem}.png")
        (tmp_path / annotations / f"{stem}.xml").write_text(text)

    return write


def test_vocs_own_folders(put, tmp_path):
    for stem, name in (("a", "tree"), ("b 0 ü", "bush"), ("c", "tree")):
        put(stem, annotation(name))
    assert set(read_voc(tmp_path)) == {"train"}
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nc 1\n")
    (lists / "val.txt").write_text("b 0 ü\n")
    sets = read_voc(tmp_path)
    train, images = sets["train"]
    assert images == tmp_path / "JPEGImages"
    assert [image["file_name"] for image in train["images"]] == ["a.png", "c.png"]
    # Those of both sets: ids mean the same in each.
    assert [c["name"] for c in train["categories"]] == ["bush", "tree"]
    assert train["categories"] == sets["val"][0]["categories"]
    entry = train["annotations"][1]
    assert (entry["image_id"], entry["category_id"], entry["bbox"]) == (2, 2, [2, 0, 28, 20])
    assert entry["area"] == 560


def test_the_image_beside_the_file_counts(put, tmp_path):
    put("a", annotation())
    masks = tmp_path / "JPEGImages" / "masks"
    masks.mkdir()
    shutil.copy(tmp_path / "JPEGImages" / "a.png", masks)
    data, _ = read_voc(tmp_path)["train"]
    assert [image["file_name"] for image in data["images"]] == ["a.png"]


@pytest.mark.parametrize("name", ["val", "valid"])
def test_roboflows_folders(put, tmp_path, name):
    put("a", annotation(), "train", "train")
    put("b", annotation(), name, name)
    sets = read_voc(tmp_path)
    assert {part: images for part, (_, images) in sets.items()} == {
        "train": tmp_path / "train",
        "val": tmp_path / name,
    }
    assert set(read_voc(tmp_path / "train")) == {"train"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", r"a\.xml: xml is not a VOC annotation: .*line 1.*; mend the file"),
        (annotation(name=" "), r"a\.xml: object 1 has no name"),
        (annotation(box=(30, 1, 3, 20)), r"a\.xml: object 1 has the corners \[30"),
        (annotation(box=("x", 1, 3, 20)), r"a\.xml: .*object 1 has xmin 'x'"),
        (annotation(size=(30, 40)), r"a\.xml: .*a\.png: it is 40x30 pixels, its annotation says"),
        ("<annotation/>", "no XML file for train has objects"),
    ],
)
def test_faults_name_the_file(put, tmp_path, text, reason):
    put("a", text)
    with pytest.raises(DataError, match=reason) as error:
        read_voc(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_images_and_folders(put, tmp_path):
    put("a", annotation())
    (tmp_path / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.xml: .*JPEGImages/a\.jpg or \.png is missing"):
        read_voc(tmp_path)
    with pytest.raises(DataError, match="no XML file for train"):
        read_voc(tmp_path / "gone")
