import os
import shutil
from pathlib import Path

import pytest
import report_examples
from browsing import Opened

from softpool_det.report import write_html

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

FOUR_ARMS = ("stock max 3x3", "SoftPool 2x2 exact", "SoftPool 3x3 paper", "SoftPool 3x3 exact")
EIGHTY_CLASSES = [f"{name} {number}" for number in range(16) for name in report_examples.COCO_LIKE]


# Closed with its file: what later tests fork would keep its pipes open, and it would never end.
@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no browser: set CHROMIUM, or have one of {', '.join(CHROMIUM)} on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


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


@pytest.fixture(scope="session")
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
