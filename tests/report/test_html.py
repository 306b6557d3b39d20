import copy
import json
import re
from dataclasses import replace

import matplotlib
import pytest
import report_examples
from PIL import Image

from softpool_det.report import PictureRow, comparison_markdown, write_html
from softpool_det.report.charts.forest import forest_chart, shared_limits
from softpool_det.report.pictures import MAX_SIDE, embed

OPTIONAL = ("costs", "training", "config_difference", "provenance")
OF_A_TASK = ("per_class", "curves", "errors", "calibration", "image_gains")


@pytest.fixture(scope="module")
def full():
    return report_examples.full(seeds=2, tasks=("bbox",))


def html(tmp_path, comparison, **pictures):
    path = tmp_path / "report.html"
    write_html(path, comparison, **pictures)
    return path.read_text()


def test_the_same_input_gives_the_same_file(tmp_path, full):
    assert html(tmp_path, full) == html(tmp_path, copy.deepcopy(full))


def test_settings_of_the_user_change_nothing(tmp_path, full):
    expected = html(tmp_path, full)
    changed = {"savefig.bbox": "tight", "lines.linewidth": 9, "axes.titlesize": 40}
    with matplotlib.rc_context(changed):
        assert html(tmp_path, full) == expected


def test_takes_what_comparison_json_holds(tmp_path, full):
    assert html(tmp_path, json.loads(json.dumps(full))) == html(tmp_path, full)


@pytest.mark.parametrize("part", [*OPTIONAL, *OF_A_TASK])
def test_any_optional_part_may_be_missing(tmp_path, full, part):
    comparison = copy.deepcopy(full)
    del (comparison if part in OPTIONAL else comparison["tasks"]["bbox"])[part]
    assert_whole(html(tmp_path, comparison))


def test_optional_parts_may_be_empty(tmp_path, full):
    comparison = copy.deepcopy(full)
    comparison |= {key: {} for key in OPTIONAL}
    comparison["tasks"]["bbox"] |= {key: {} for key in OF_A_TASK}
    assert_whole(html(tmp_path, comparison))


def assert_whole(text):
    assert "<h1>" in text
    assert "None" not in re.sub("<[^>]*>", "", text)


def test_no_seeds_in_differences_by_class(tmp_path, full):
    comparison = copy.deepcopy(full)
    for entry in comparison["tasks"]["bbox"]["differences"][0]["per_class"].values():
        del entry["by_seed"]
    assert "by class" in html(tmp_path, comparison)


def test_names_and_text_are_escaped(tmp_path):
    evil = '<b class="x">&\'</b>'
    comparison = report_examples.full((evil, "other"), [evil, "dog\x01\udcff"], tasks=("bbox",))
    comparison["provenance"]["files"][0]["path"] = evil
    comparison["provenance"]["command"] = evil
    comparison["provenance"]["files"][1]["path"] = "no text \udcff"
    comparison["tasks"]["bbox"]["differences"][0]["verdict"] = evil
    activations = [PictureRow(evil, evil, [(evil, report_examples.scene(0))])]
    gallery = report_examples.gallery((evil, "other"), 1, [evil])
    gallery = [replace(gallery[0], title=evil, caption=evil)]
    text = html(tmp_path, comparison, gallery=gallery, activations=activations)
    assert evil not in text
    assert '<b class="x">' not in text


def test_names_are_escaped_once(tmp_path):
    name = "a<b & *c*_d_|e $1$"
    comparison = report_examples.full((name, "other"), [name, "dog"], tasks=("bbox",))
    text = html(tmp_path, comparison)
    assert "a&lt;b &amp; *c*_d_|e $1$" in text
    assert "&amp;lt;" not in text
    assert "&amp;amp;" not in text


def test_colours_are_the_style_sheets(tmp_path, full):
    svgs = re.findall("<svg.*?</svg>", html(tmp_path, full), re.DOTALL)
    assert len(svgs) > 10
    elements = "".join(re.sub(">[^<]*<", "><", svg) for svg in svgs)
    assert re.findall(r"#[0-9a-f]{6}\b", elements) == []
    assert "font-family" not in elements


def test_a_colour_in_a_class_name_stays_text():
    rows = [("#010203", report_examples.difference(1.0, 0.5))]
    svg = forest_chart(rows, (-1, 2), 1, "AP points", "a title")
    assert ">#010203</text>" in svg


def test_shared_limits_hold_all_numbers_and_zero():
    rows = [("a", report_examples.difference(2.0, 0.5, 3)), ("b", {**rows_without_numbers()})]
    low, high = shared_limits(rows)
    assert low < 0
    assert high > 2.5
    assert shared_limits([]) == (-1.0, 1.0)


def rows_without_numbers():
    return report_examples.nothing(report_examples.difference(1.0, 0.5))


def test_large_pictures_are_reduced(tmp_path):
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "x.jpg")
    row = PictureRow("row", "", [("a", (tmp_path / "x.jpg").read_bytes())])
    (picture,) = embed(row)
    assert (picture.width, picture.height) == (MAX_SIDE, MAX_SIDE // 2)
    assert picture.uri.startswith("data:image/webp;base64,")


def test_an_unreadable_picture_is_named(tmp_path, full):
    activations = [PictureRow("Channel 7", "", [("stock", b"no picture")])]
    with pytest.raises(ValueError, match=r"'stock' of 'Channel 7' must be a PNG"):
        html(tmp_path, full, activations=activations)
    assert not list(tmp_path.iterdir())


def test_a_photograph_is_embedded_once(tmp_path, full):
    gallery = report_examples.gallery(("stock", "SoftPool"), 2)
    text = html(tmp_path, full, gallery=gallery)
    for row in gallery:
        assert text.count(row.photograph.uri) == 1
    assert text.count("<path class=") == 2 * 3 * 6


def without_metric(comparison):
    del comparison["tasks"]["bbox"]["metrics"]["stock"]["APs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "images missing"),
        (lambda c: c.update(names=["stock"]), "two or more different names"),
        (lambda c: c.update(names=["stock", "stock"]), "two or more different names"),
        (lambda c: c.update(seeds=[]), "at least one seed"),
        (lambda c: c.update(tasks={}), r"must have some of \['bbox', 'segm'\]"),
        (lambda c: c["tasks"].update(keypoints={}), r"must have some of \['bbox', 'segm'\]"),
        (lambda c: c["tasks"]["bbox"].pop("metrics"), "must have 'metrics'"),
        (lambda c: c["tasks"]["bbox"]["differences"].clear(), r"one for each of \['SoftPool'\]"),
        (without_metric, "needs APs"),
    ],
)
def test_what_every_comparison_has_is_checked(tmp_path, full, change, message):
    comparison = copy.deepcopy(full)
    change(comparison)
    for write in (lambda: html(tmp_path, comparison), lambda: comparison_markdown(comparison)):
        with pytest.raises(ValueError, match=message):
            write()
