"""The paper's data sets are found by the names of their files; what is missing is named."""

import re

import pytest
from PIL import Image

from softpool_det.similarity.datasets import DATASETS, dataset_photographs
from softpool_det.similarity.photographs import installed_photographs, split, spread

LAYOUTS = [
    ("div2k", "DIV2K/DIV2K_valid_HR/{:04d}.png", range(801, 901)),
    ("div2k", "DIV2K_train_HR/{:04d}.png", range(1, 801)),
    ("urban100", "Urban100_HR/img_{:03d}.png", range(1, 101)),
    ("urban100", "Urban100/image_SRF_4/img_{:03d}_SRF_4_HR.png", range(1, 101)),
    ("urban100", "Urban100/HR/img{:03d}.png", range(1, 101)),
    ("urban100", "img{:03d}.png", range(1, 101)),
    ("manga109", "Manga109/images/ARMS/{:03d}.jpg", range(3)),
    ("manga109", "HR/Title{}.png", range(3)),
    ("flickr2k", "Flickr2K/Flickr2K_HR/{:06d}.png", range(1, 2651)),
]


def make(root, name, numbers):
    for number in numbers:
        path = root / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Names alone are looked at; a picture among thousands is enough.
        if number == numbers[0]:
            Image.new("RGB", (4, 3)).save(path)
        else:
            path.touch()


@pytest.mark.parametrize(("dataset", "name", "numbers"), LAYOUTS)
def test_layouts(tmp_path, dataset, name, numbers):
    make(tmp_path, name, numbers)
    found = dataset_photographs(dataset, tmp_path)
    assert [photograph.path for photograph in found] == [
        tmp_path / name.format(number) for number in numbers
    ]


def test_parts_that_are_there_are_joined_but_not_copies(tmp_path):
    make(tmp_path, "DIV2K_train_HR/{:04d}.png", range(1, 801))
    make(tmp_path, "DIV2K_valid_HR/{:04d}.png", range(801, 901))
    found = dataset_photographs("div2k", tmp_path)
    assert len(found) == 900
    assert found[0].name == "DIV2K_train_HR/0001.png"
    make(tmp_path, "image_SRF_2/img_{:03d}_SRF_2_HR.png", range(1, 101))
    make(tmp_path, "image_SRF_4/img_{:03d}_SRF_4_HR.png", range(1, 101))
    assert len(dataset_photographs("urban100", tmp_path)) == 100


# Manga109's volumes have names.
@pytest.mark.parametrize(
    ("dataset", "name", "numbers"), [layout for layout in LAYOUTS if layout[0] != "manga109"]
)
def test_a_missing_file_is_named(tmp_path, dataset, name, numbers):
    make(tmp_path, name, numbers)
    missing = tmp_path / name.format(numbers[-1])
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(missing))) as error:
        dataset_photographs(dataset, tmp_path)
    assert f"lacks 1 of {len(numbers)} files" in str(error.value)
    assert "https://" in str(error.value)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_data_set_says_where_it_comes_from(tmp_path, dataset):
    with pytest.raises(FileNotFoundError, match=r"is missing; get .*http") as error:
        dataset_photographs(dataset, tmp_path)
    assert re.search(r"MB|GB|gigabytes", str(error.value))
    with pytest.raises(KeyError, match="no data set 'coco'; there are: div2k"):
        dataset_photographs("coco", tmp_path)


def test_installed_photographs_are_large_and_in_order():
    found = installed_photographs()
    assert {"astronaut.png", "grace_hopper.jpg"} <= {photograph.name for photograph in found}
    assert found == sorted(found, key=lambda photograph: photograph.name)


def test_limit_and_halves():
    assert spread([*"abcdef"], 3) == ["a", "c", "e"]
    assert spread([*"ab"], 5) == ["a", "b"]
    assert split([*"abcde"], True) == (["a", "b"], ["c", "d", "e"])
    assert split([*"abc"], False) == ([], ["a", "b", "c"])
