"""The report's gallery as a browser shows it: its slider, its classes and its pictures."""

from dataclasses import replace

import pytest
import report_examples
from browsing import DESKTOP, PHONE

from softpool_det.report import write_html
from softpool_det.report.overlay import Shape, frame_of, label_place

pytestmark = pytest.mark.timeout(60)


def test_pictures_decode_and_open_large_by_keyboard(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP).page
    images = page.locator("figure.picture img")
    assert images.count() == 2 * 3
    assert page.locator("figure.picture .drawing use").count() == 4 * 3
    page.evaluate(
        "Promise.all([...document.querySelectorAll('figure img, defs image')].map(e => e.decode()))"
    )
    assert all(alt for alt in images.evaluate_all("all => all.map(each => each.alt)"))

    second = page.locator(".enlarge").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert ": stock: 3 right, 2 wrong of score" in dialog.locator("p").inner_text()
    page.keyboard.press("ArrowRight")
    assert ": SoftPool: 3 right, 1 wrong of score" in dialog.locator("p").inner_text()
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert second.evaluate("each => each === document.activeElement")


def captions(page, row=0):
    return page.locator("#gallery .panels").nth(row).locator("figcaption").all_inner_texts()


def drawn(panel):
    """Labels of the outlines that are shown, and the labels that are."""
    return panel.evaluate(
        """panel => {
          const labels = [...panel.querySelectorAll(".drawing > span")];
          const shown = each => getComputedStyle(each).display !== "none";
          const paths = [...panel.querySelectorAll("path")];
          return [
            labels.filter((_, index) => shown(paths[index])).map(each => each.textContent),
            labels.filter(shown).map(each => each.textContent),
          ];
        }"""
    )


def test_a_slider_and_a_class_choose_what_is_drawn(reports, open_page):
    opened = open_page(reports["full"], viewport=DESKTOP)
    page = opened.page
    truth, stock, other = page.locator("#gallery .panels").first.locator("figure").all()
    before = [
        "ground truth",
        "stock: 3 right, 2 wrong of score 0.31 or more",
        "SoftPool: 3 right, 1 wrong of score 0.35 or more",
    ]
    assert captions(page) == before
    # The arm whose slider stays is not drawn again.
    other.evaluate(
        """panel => new MutationObserver(() => { window.touched = true; })
          .observe(panel, {subtree: true, childList: true, attributes: true})"""
    )
    slider = page.get_by_role("slider", name="stock: score at least")
    slider.focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "0.19"
    assert captions(page) == [before[0], "stock: 4 right, 2 wrong of score 0.19 or more", before[2]]
    assert len(drawn(stock)[0]) == 6
    assert len(drawn(other)[0]) == 4
    assert not page.evaluate("window.touched")

    page.get_by_role("combobox", name="Class").select_option("person")
    after = [
        "ground truth",
        "stock: 2 right, 0 wrong of score 0.19 or more (person)",
        "SoftPool: 1 right, 0 wrong of score 0.35 or more (person)",
    ]
    for row in range(4):
        assert captions(page, row) == after
    assert drawn(truth) == [["person", "person"]] * 2
    assert drawn(stock) == [["person 0.20", "person 0.95"]] * 2

    button = stock.get_by_role("button")
    assert button.get_attribute("aria-label").endswith(after[1])
    button.click()
    dialog = page.locator("dialog[open]")
    assert dialog.locator("p").inner_text().endswith(after[1])
    assert drawn(dialog.locator(".view")) == drawn(stock)
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Reset").click()
    assert captions(page) == before
    assert [url for url in opened.requests if not url.startswith("data:")] == [
        reports["full"].as_uri()
    ]
    assert opened.errors == []


def test_many_objects_have_no_labels_until_few_are_left(tmp_path, open_page):
    rows = report_examples.gallery(("stock", "SoftPool"), 1)
    stock = rows[0].panels[1]
    crowded = replace(stock, shapes=stock.shapes * 5)
    rows[0].panels[1] = crowded
    write_html(tmp_path / "crowded.html", report_examples.full(), rows)
    page = open_page(tmp_path / "crowded.html", viewport=DESKTOP).page
    panel = page.locator("#gallery figure").nth(1)
    shown, labels = drawn(panel)
    assert (len(shown), labels) == (25, [])
    page.get_by_role("combobox", name="Class").select_option("hair drier")
    assert drawn(panel) == [["hair drier 0.50"] * 5] * 2
    page.get_by_role("combobox", name="Class").select_option("")
    assert drawn(panel) == [shown, []]


def test_filters_of_many_arms_leave_room_for_the_pictures(tmp_path, open_page):
    names = [f"arm {number}" for number in range(14)]
    path = tmp_path / "many.html"
    write_html(path, report_examples.minimal(), report_examples.gallery(names, 1))
    page = open_page(path, viewport=PHONE, is_mobile=True, has_touch=True).page
    filters = page.locator(".filters")
    page.locator(".enlarge").last.focus()
    for _ in range(4):
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.className") == "enlarge"
        top = page.evaluate("document.activeElement.getBoundingClientRect().top")
        box = filters.bounding_box()
        assert box["y"] == 0
        assert box["height"] < 0.3 * PHONE["height"]
        assert top > box["height"]


def test_labels_are_whole_in_low_pictures_and_printed_on_their_ground(tmp_path, open_page):
    (row,) = report_examples.gallery(("stock", "SoftPool"), 1)
    row = replace(row, frame=frame_of(1200, 100))
    places = [label_place((100, y, 50, 20), row.frame, 640 / 1200) for y in (0, 10, 40, 75)]
    shapes = [Shape("M0 0z", False, place, 0, "person") for place in places]
    row = replace(row, panels=[replace(panel, shapes=shapes) for panel in row.panels])
    path = tmp_path / "low.html"
    write_html(path, report_examples.minimal(("stock", "SoftPool")), [row])
    page = open_page(path, viewport=PHONE).page
    labels = page.locator(".drawing > span")
    assert labels.count() == 3 * 4
    for label in labels.all():
        area = label.locator("xpath=..").bounding_box()
        box = label.bounding_box()
        assert area["y"] <= box["y"]
        assert box["y"] + box["height"] <= area["y"] + area["height"] + 0.01
        assert label.evaluate("each => getComputedStyle(each).printColorAdjust") == "exact"


def test_all_is_drawn_without_scripts(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP, java_script_enabled=False).page
    assert page.locator(".filters").is_hidden()
    shown, labels = drawn(page.locator("#gallery figure").nth(1))
    assert len(shown) == len(labels) == 5
