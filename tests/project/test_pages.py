"""Markdown: links lead somewhere, navigation is complete, Python blocks run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from torchvision.models import resnet18

from softpool_det import add_softpool_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "csrc" / "README.md"]
# Pages whose blocks other tests run, and how many: a new one needs a test there.
ELSEWHERE = {
    "docs/deployment.md": 2,  # tests/export
    "docs/other-detectors.md": 14,  # tests/replace, tests/config, tests/hosts
    "docs/your-data.md": 1,  # tests/training/test_predictor.py
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page):
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if not re.match(r"https?:|mailto:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    listed = (ROOT / "docs" / "index.md").read_text().splitlines()
    assert [page for page in ROOT.glob("docs/*.md") if page.stem not in ["index", *listed]] == []


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
def test_python_blocks_run(page, tmp_path, monkeypatch, one_thread):
    blocks = python_blocks(page)
    if name_of(page) in ELSEWHERE:
        assert len(blocks) == ELSEWHERE[name_of(page)]
        return
    monkeypatch.chdir(tmp_path)
    Path("your_config.yaml").write_text("MODEL:\n  MASK_ON: true\n")
    # What a reader has already.
    given = {"x": torch.randn(2, 64, 8, 8), "model": resnet18(), "cfg": get_cfg()}
    given["get_cfg"] = get_cfg
    add_softpool_config(given["cfg"])
    for number, block in enumerate(blocks):
        exec(compile(block, f"{name_of(page)}, block {number}", "exec"), given)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_a_picture_has_a_text_for_those_who_do_not_see_it():
    for page in PAGES:
        for tag in re.findall(r"<img [^>]*>", page.read_text()):
            assert re.search(r'alt="[^"]{20,}"', tag), f"{page.name}: {tag}"
