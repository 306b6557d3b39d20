"""Annotation files whose images have no size."""

import json

import pytest
from annotation_files import annotation, coco
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from softpool_det.io.data_errors import DataError, Skipped
from softpool_det.training.annotation_checks import (
    check_evaluation_annotations,
    check_training_annotations,
)

NO_SIZES = {
    "null": {"height": None, "width": None},
    "missing": {},
    "one side": {"height": 20},
}


def sized(tmp_path, image, **options):
    """A data set of two images, the first of which has the size of its file, 30x20 as shown."""
    (tmp_path / "images").mkdir()
    stored = (20, 30) if options else (30, 20)
    Image.new("L", stored).save(tmp_path / "images" / "1.jpg", **options)
    images = [
        {"id": "a", "file_name": "1.jpg", **image},
        {"id": "b", "file_name": "2.png", "height": 7, "width": 9},
    ]
    return coco(annotation(1, image_id="a"), annotation(2, image_id="b"), images=images)


TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize("options", [{}, {"exif": TURNED}], ids=["plain", "turned by EXIF"])
@pytest.mark.parametrize("image", NO_SIZES.values(), ids=NO_SIZES)
def test_size_is_read_from_the_image(dataset, tmp_path, image, options, caplog):
    content = sized(tmp_path, image, **options)
    for training in (False, True):
        name = dataset(content)
        skipped = Skipped()
        if training:
            assert check_training_annotations(name, False, skipped, tmp_path / "output") == name
        else:
            check_evaluation_annotations(name)
        records = DatasetCatalog.get(name)
        sizes = [(record["image_id"], record["height"], record["width"]) for record in records]
        assert sizes == [("a", 20, 30), ("b", 7, 9)]
        assert records[0]["file_name"] == str(tmp_path / "images" / "1.jpg")
        assert MetadataCatalog.get(name).thing_classes == ["one", "seven"]
    assert json.loads((tmp_path / "instances.json").read_text()) == content
    lines = [record.getMessage() for record in caplog.records if "size" in record.getMessage()]
    assert lines == [
        f"{tmp_path / 'instances.json'}: 1 of 2 images have no size; it is read from the files"
    ]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_size_that_cannot_be_read(dataset, tmp_path, damage):
    name = dataset(sized(tmp_path, NO_SIZES["null"]))
    image = tmp_path / "images" / "1.jpg"
    if damage == "missing":
        image.unlink()
        reason = f"{image}: file not found"
    else:
        image.write_bytes(image.read_bytes()[:2])
        reason = f"{image} cannot be read as an image (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)"
    reason = f"it has no size, and {reason}"
    entry = f"{tmp_path / 'instances.json'}: entry 0 of images (id 'a')"
    with pytest.raises(DataError) as error:
        check_evaluation_annotations(name)
    assert str(error.value) == f"{entry}: {reason}"
    with pytest.raises(DataError, match=r"INPUT\.SKIP_CORRUPT True leaves such entries out"):
        check_training_annotations(name, False, Skipped(), tmp_path)
    skipped = Skipped()
    copy = check_training_annotations(name, True, skipped, tmp_path / "output")
    assert skipped.reasons == {entry: reason}
    (record,) = DatasetCatalog.get(copy)
    assert record["image_id"] == "b"
    assert len(record["annotations"]) == 1


def test_run_lengths_in_an_image_without_a_size(dataset, tmp_path):
    content = sized(tmp_path, NO_SIZES["missing"])
    (tmp_path / "images" / "1.jpg").unlink()
    content["annotations"][0]["segmentation"] = {"size": [20, 30], "counts": [600]}
    with pytest.raises(
        DataError, match=r"entry 0 of images .* it has no size, and .* file not found"
    ):
        check_training_annotations(dataset(content), False, Skipped(), tmp_path)
