"""`make docs`: builds without a warning, and a browser needs nothing but what it built."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "docs"


class References(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.resources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("src", "href", "srcset", "data") and value:
                (self.links if tag == "a" else self.resources).append(value)


@pytest.mark.slow
def test_site():
    subprocess.run(["make", "docs"], cwd=ROOT, check=True)
    pages = [page for page in SITE.rglob("*.html") if "_static" not in page.parts]
    assert len(pages) > 30
    for page in pages:
        found = References(page.read_text())
        assert [each for each in found.resources if re.match(r"https?:|//", each)] == []
        for link in found.links + found.resources:
            path = unquote(link.split("#")[0].split("?")[0])
            if path and not re.match(r"[a-z]+:", path):
                assert (page.parent / path).exists(), f"{page}: {link}"
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"(url\(['\"]?|@import ['\"])(https?:|//)", sheet.read_text()), sheet
