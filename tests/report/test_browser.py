"""The report as a browser shows it: offline, on a phone, in the dark, by keyboard."""

import pytest
import report_examples
from browsing import DESKTOP, PHONE

from softpool_det.report import write_html

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


def test_reads_without_scripts(reports, open_page):
    page = open_page(reports["full"], viewport=DESKTOP, java_script_enabled=False).page
    for section, content in SECTIONS.items():
        assert page.locator(f"#{section} {content}").first.is_visible(), section


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
