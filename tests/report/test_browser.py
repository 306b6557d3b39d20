"""The report as a browser shows it: offline, on a phone, in the dark, by keyboard."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import report_examples

from softpool_det.report import write_html
from softpool_det.report.overlay import Shape, frame_of, label_place

FOUR_ARMS = ("stock max 3x3", "SoftPool 2x2 exact", "SoftPool 3x3 paper", "SoftPool 3x3 exact")
EIGHTY_CLASSES = [f"{name} {number}" for number in range(16) for name in report_examples.COCO_LIKE]
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 900}

# What a section of the full report must show: figures, pictures or tables.
SECTIONS = {
    "verdict": "article.card",
    "ap": "table",
    "differences": "figure svg",
    "curves": "figure svg",
    "objects": "table",
    "errors": "figure svg",
    "calibration": "figure svg",
    "training": "figure svg",
    "costs": "table",
    "gallery": "figure .drawing use",
    "activations": "figure img",
    "configs": "pre",
    "provenance": "pre",
}

VISIBLE_TEXTS = """
() => {
  const opaque = (text) => {
    const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
    return a === 0 ? null : [r, g, b];
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = opaque(getComputedStyle(at).backgroundColor);
      if (colour) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (["SCRIPT", "STYLE", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const svg = element.ownerSVGElement;
    const scale = svg ? svg.getScreenCTM().a : 1;
    found.push({
      text: node.data.trim(),
      size: parseFloat(style.fontSize) * scale,
      colour: opaque(svg ? style.fill : style.color),
      background: background(svg ? svg.parentElement : element),
    });
  }
  return found;
}
"""

FOCUS = """
() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    number: (window.interactive ?? []).indexOf(element),
    what: element.outerHTML.slice(0, 80),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight,
  };
}
"""


# A page that never answers would hold up everything.
pytestmark = pytest.mark.timeout(60)


@dataclass
class Opened:
    page: object
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Files by name: the whole report, a large one, and one with nothing optional."""
    folder = tmp_path_factory.mktemp("reports")
    names = ("stock", "SoftPool")
    pictures = report_examples.gallery(names), report_examples.pictures(("max", "SoftPool"), 2)
    large = report_examples.full(FOUR_ARMS, EIGHTY_CLASSES, tasks=("bbox",))
    files = {name: folder / f"{name}.html" for name in ("full", "large", "smallest", "long")}
    write_html(files["full"], report_examples.full(names), *pictures)
    write_html(files["large"], large, report_examples.gallery(FOUR_ARMS, 2, masks=True))
    write_html(files["smallest"], report_examples.minimal())
    long_names = ("stock max 3x3", "SoftPool 2x2 exact")
    write_html(files["long"], report_examples.full(long_names, gap=-10))
    return files


@pytest.fixture
def open_page(browser):
    contexts = []

    def opened(path: Path, **options) -> Opened:
        context = browser.new_context(**options)
        contexts.append(context)
        result = Opened(context.new_page())

        def decide(route):
            result.requests.append(route.request.url)
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                route.abort()

        context.route("**/*", decide)
        page = result.page
        page.on("pageerror", lambda error: result.errors.append(str(error)))
        page.on("console", lambda message: result.errors.append(message.text))
        page.goto(path.as_uri())
        return result

    yield opened
    for context in contexts:
        context.close()


def open_all_details(page):
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def luminance(colour):
    parts = [value / 255 for value in colour]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["full", "large", "smallest"])
def test_asks_for_nothing_but_itself(reports, open_page, name):
    opened = open_page(reports[name], viewport=DESKTOP)
    open_all_details(opened.page)
    opened.page.mouse.wheel(0, 100_000)
    opened.page.wait_for_load_state("networkidle")
    outside = [url for url in opened.requests if not url.startswith("data:")]
    assert outside in ([], [reports[name].as_uri()])
    assert opened.errors == []


def test_shows_every_section(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP).page
    assert page.locator("h1").inner_text() == "SoftPool against stock"
    found = page.locator("main > section").evaluate_all("all => all.map(each => each.id)")
    assert found == list(SECTIONS)
    for section, content in SECTIONS.items():
        assert page.locator(f"#{section} h2").inner_text()
        assert page.locator(f"#{section} {content}").first.is_visible(), section
        if section != "verdict":
            assert page.locator(f"nav a[href='#{section}']").is_visible()
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0


def test_ids_are_unique_and_references_lead_somewhere(reports, open_page):
    for path in reports.values():
        page = open_page(path, viewport=DESKTOP).page
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
        assert len(ids) == len(set(ids))
        text = path.read_text()
        for identifier in page.evaluate(
            "[...document.querySelectorAll('use')].map(u => u.href.baseVal.slice(1))"
        ):
            assert identifier in ids
        assert text.count("url(#") == sum(text.count(f"url(#{identifier})") for identifier in ids)


def test_the_smallest_input_leaves_no_trace_of_what_it_lacks(reports, open_page):
    page = open_page(reports["smallest"], viewport=DESKTOP).page
    found = page.locator("main > section").evaluate_all("all => all.map(each => each.id)")
    assert found == ["verdict", "ap", "differences"]
    assert page.locator("nav a").count() == 2
    assert page.locator("img").count() == 0
    assert page.locator("dialog").count() == 0
    assert "not a finding" in page.locator("#verdict").inner_text()


@pytest.mark.parametrize("name", ["full", "large", "smallest"])
def test_fits_a_phone(reports, open_page, name):
    page = open_page(reports[name], viewport=PHONE, is_mobile=True, has_touch=True).page
    open_all_details(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    small = [text for text in page.evaluate(VISIBLE_TEXTS) if text["size"] < 10.99]
    assert small == []


def test_the_main_table_needs_no_scrolling_on_a_phone(reports, open_page):
    page = open_page(reports["long"], viewport=PHONE, is_mobile=True, has_touch=True).page
    tables = page.locator("#ap .tasks > div > .scroll").all()
    assert len(tables) == 2
    for table in tables:
        assert table.evaluate("each => each.scrollWidth - each.clientWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["full", pytest.param("large", marks=pytest.mark.slow)])
def test_text_can_be_read_in_the_light_and_in_the_dark(reports, open_page, name, scheme):
    page = open_page(reports[name], viewport=DESKTOP, color_scheme=scheme).page
    open_all_details(page)
    texts = page.evaluate(VISIBLE_TEXTS)
    assert len(texts) > 200
    faint = [t for t in texts if contrast(t["colour"], t["background"]) < 4.5]
    assert faint == []
    is_dark = luminance(texts[0]["background"]) < 0.2
    assert is_dark == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_charts_stand_out(reports, open_page, scheme):
    page = open_page(reports["full"], viewport=DESKTOP, color_scheme=scheme).page
    colour = """name => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    }"""
    page_colour = page.evaluate(colour, "page")
    for arm in range(6):
        assert contrast(page.evaluate(colour, f"arm-{arm}"), page_colour) >= 4.5


def test_the_keyboard_reaches_everything(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP).page
    open_all_details(page)
    count = page.evaluate(
        "(window.interactive = [...document.querySelectorAll("
        "'a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(each => each.checkVisibility())).length"
    )
    reached = []
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUS))
    assert [focus["number"] for focus in reached] == list(range(count))
    assert [focus["what"] for focus in reached if not focus["outlined"]] == []
    assert all(focus["inside"] for focus in reached)


def test_the_skip_link_leads_to_the_content(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP).page
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS)["inside"]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


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


def test_reads_without_scripts(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP, java_script_enabled=False).page
    for section, content in SECTIONS.items():
        assert page.locator(f"#{section} {content}").first.is_visible(), section
    assert page.locator(".filters").is_hidden()
    shown, labels = drawn(page.locator("#gallery figure").nth(1))
    assert len(shown) == len(labels) == 5


def test_hostile_names_run_nothing(tmp_path, open_page):
    evil = "<script>document.title='hit'</script>"
    names = [evil, "\"><img src=x onerror=document.title='hit'>"]
    comparison = report_examples.full(names, [evil, "a' onload='x", "]]>-->", "\x0b"])
    path = tmp_path / "evil.html"
    write_html(path, comparison, report_examples.gallery(names, 1, [evil, *names]))
    opened = open_page(path, viewport=PHONE)
    open_all_details(opened.page)
    assert opened.page.title().endswith("detector comparison")
    assert opened.page.locator("script").count() == 1
    assert opened.page.locator("img[src=x]").count() == 0
    assert evil in opened.page.locator("h1").inner_text()
    assert opened.errors == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
