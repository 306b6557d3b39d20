"""comparison.png, the summary on one picture."""

import matplotlib
import numpy as np
import pytest
import report_examples
from PIL import Image

from softpool_det.report import write_card
from softpool_det.report.card import HEIGHT, WIDTH, draw_card
from softpool_det.report.formatting import true_minus

LONG = "retinanet_softpool_R_50_FPN_1x_of_a_name_that_never_ends_" * 4
ONE_SEED = (
    "No difference is shown: {}'s run minus {}'s is -0.10 AP (95 % interval -0.80 to +0.60, "
    "P(better) 0.34; 5,000 images, 1 seed). With one seed, differences between training runs were "
    "not seen: COCO runs of one config differ by 0.2 to 0.3 AP between seeds, short trainings by "
    "far more, and this difference is inside that noise, so it is not a finding."
)


def texts(comparison):
    """What stands on the card; labels of the axis are left out."""
    return [text.get_text() for text in draw_card(comparison).texts if text.get_text()]


def decided(comparison, *decisions):
    for results in comparison["tasks"].values():
        for difference, decision in zip(results["differences"], decisions, strict=True):
            difference["decision"] = decision
    return comparison


def of_simultaneous(comparison, value, low, high):
    """With this difference of each candidate, as found among several."""
    for difference in comparison["tasks"]["bbox"]["differences"]:
        ends = {"simultaneous_low": low, "simultaneous_high": high}
        difference["metrics"]["AP"] |= {"value": value, "low": value - 1, "high": value + 1, **ends}
    return decided(comparison, *["undecided"] * (len(comparison["names"]) - 1))


def with_long_verdicts(comparison):
    for results in comparison["tasks"].values():
        for difference in results["differences"]:
            names = difference["candidate"], difference["baseline"]
            difference["verdict"] = ONE_SEED.format(*names)
    return comparison


CARDS = {
    "one": report_examples.full(tasks=("bbox",)),
    "two tasks": with_long_verdicts(report_examples.full(seeds=1)),
    "most rows": report_examples.full(("stock", *"ABCDE"), seeds=1),
    "too many": report_examples.minimal(("stock", *"ABCDEFG")),
    "long names": with_long_verdicts(report_examples.full((LONG + "a", LONG + "b"))),
    "many long names": report_examples.full(
        ("\N{CJK UNIFIED IDEOGRAPH-65E5}" * 90, *(f"{LONG}{number}" for number in range(5)))
    ),
    "two digits": of_simultaneous(
        report_examples.full(("stock", *"ABCDE"), seeds=1, tasks=("bbox",)), -16.34, -22.51, -10.38
    ),
    "two digits, few rows": of_simultaneous(
        report_examples.full(("stock", *"AB"), tasks=("bbox",)), -16.34, -22.51, -10.38
    ),
    "odd names": report_examples.minimal(("$x^2$", "a\nb \x1b\udcff")),
}


@pytest.mark.parametrize("comparison", CARDS.values(), ids=CARDS)
def test_no_text_leaves_the_card_or_hides_another(comparison):
    found = draw_card(comparison).texts
    boxes = [text.get_window_extent() for text in found if text.get_text()]
    for box in boxes:
        assert box.x0 >= 30
        assert box.x1 <= WIDTH - 30
        assert box.y0 >= 20
        assert box.y1 <= HEIGHT - 20
    for number, one in enumerate(boxes):
        assert sum(one.shrunk(1, 0.5).overlaps(other) for other in boxes[number:]) == 1


@pytest.mark.parametrize("comparison", CARDS.values(), ids=CARDS)
def test_text_keeps_clear_of_the_axis(comparison):
    figure = draw_card(comparison)
    (axes,) = figure.axes
    area = axes.get_tightbbox()
    for text in figure.texts:
        if text.get_text():
            assert not area.overlaps(text.get_window_extent().shrunk(0.98, 0.6)), text.get_text()


def test_says_what_the_report_says():
    comparison = decided(report_examples.full(tasks=("bbox",)), "better")
    found = texts(comparison)
    for text in (
        "SoftPool against stock",
        "+1.00 (+0.40 to +1.60)",
        "better",
        "5,000 images, 36,335 objects, 5 classes, 3 seeds each; 95 % intervals",
        "softpool_det",
        comparison["tasks"]["bbox"]["differences"][0]["verdict"],
    ):
        assert text in found


def test_long_names_stay_apart():
    names = (LONG, *(f"{LONG}{number}" for number in "abcde"))
    found = texts(report_examples.full(names, tasks=("bbox",)))
    assert [text[-2:] for text in found if "…" in text][-5:] == ["_a", "_b", "_c", "_d", "_e"]
    comparison = with_long_verdicts(report_examples.full((LONG, f"{LONG}a"), tasks=("bbox",)))
    title, *_, lines = texts(comparison)[0], " ".join(texts(comparison))
    first, second = title.split(" against ")
    assert first.endswith("_a")
    assert second.endswith("ends_")
    short = [LONG[:15] + "…" + end for end in (LONG[-14:], f"{LONG[-13:]}a")]
    assert f"{short[1]}'s run minus {short[0]}'s is" in lines


def test_a_title_is_smaller_before_it_is_short():
    names = ("stock max 3x3 of another library", "SoftPool 2x2 exact")
    assert " against ".join(names[::-1]) in texts(report_examples.full(names))


def test_verdicts_of_one_seed_are_whole():
    comparison = CARDS["two tasks"]
    lines = " ".join(texts(comparison))
    for results in comparison["tasks"].values():
        assert true_minus(results["differences"][0]["verdict"]) in lines


def test_five_candidates_have_a_row_each_and_the_rest_is_counted():
    comparison = report_examples.minimal(("stock", *"ABCDEFG"))
    found = texts(decided(comparison, *["undecided"] * 7))
    assert set("ABCDE") <= set(found)
    assert "F" not in found
    assert "Not shown here: 2 candidates." in " ".join(found)


def test_intervals_are_those_that_decide():
    """Of several candidates: beside "undecided" stands no interval that excludes 0."""
    comparison = report_examples.full(("stock", *"ABC"), tasks=("bbox",))
    comparison = of_simultaneous(comparison, 1.5, -0.25, 3.25)
    found = texts(comparison)
    assert found.count("+1.50 (\N{MINUS SIGN}0.25 to +3.25)") == found.count("undecided") == 3
    assert "The intervals allow for there being 3 candidates." in " ".join(found)
    (axes,) = draw_card(comparison).axes
    bars = {(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches}
    assert bars == {(-0.25, 3.25)}


def test_remarks_come_first_and_leave_room_for_verdicts():
    remarks = ["Preliminary: 1 of 8 seeds.", "a.json has no detections in some images. " * 9]
    lines = " ".join(texts({**CARDS["two tasks"], "remarks": remarks}))
    assert "Preliminary: 1 of 8 seeds. a.json has no" in lines
    assert lines.count("so it is not a finding.") == 2
    lines = " ".join(texts({**CARDS["most rows"], "remarks": remarks}))
    assert lines.index("Preliminary: 1 of 8 seeds.") < lines.index("One run of each")


def test_bar_runs_from_end_to_end_of_the_interval():
    (axes,) = draw_card(CARDS["one"]).axes
    (bar,) = axes.patches
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((0.4, 1.6))
    low, high = axes.get_xlim()
    assert low < 0 < high


def test_settings_of_the_user_change_nothing(tmp_path):
    paths = tmp_path / "plain.png", tmp_path / "set.png"
    write_card(paths[0], CARDS["one"])
    changed = {"savefig.bbox": "tight", "savefig.transparent": True, "figure.autolayout": True}
    with matplotlib.rc_context(changed):
        write_card(paths[1], CARDS["one"])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_difference_without_a_number():
    comparison = report_examples.minimal()
    metrics = comparison["tasks"]["bbox"]["differences"][0]["metrics"]
    metrics["AP"] = report_examples.nothing(metrics["AP"])
    assert "n/a" in texts(comparison)


def test_the_picture_has_its_size_and_is_the_same_each_time(tmp_path, recwarn):
    path = tmp_path / "comparison.png"
    path.write_bytes(b"of other figures")
    write_card(path, CARDS["many long names"])
    image = Image.open(path)
    assert (image.size, image.format) == ((1200, 630), "PNG")
    assert np.asarray(image.convert("L")).min() < 60
    before = path.read_bytes()
    write_card(path, CARDS["many long names"])
    assert path.read_bytes() == before
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_picture_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "comparison.png"
    path.write_bytes(b"old")
    broken = report_examples.minimal()
    del broken["tasks"]["bbox"]["differences"][0]["verdict"]
    with pytest.raises(KeyError):
        write_card(path, broken)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["comparison.png"]
