"""Help texts: groups, defaults, and examples that the program itself takes."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from softpool_det.cli.program import new_parser

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def parse(name, arguments, monkeypatch):
    module = importlib.import_module(PROGRAMS[name].split(":")[0])
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return module.parse_args()


def help_of(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as status:
        parse(name, ["--help"], monkeypatch)
    assert status.value.code == 0
    return capsys.readouterr().out


def examples_of(text):
    """Arguments of the commands, which may have comments before them and several lines."""
    lines = text.split("\nexamples:\n")[1].replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words for words in commands if words]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_examples_of_the_help_parse(name, monkeypatch, capsys):
    commands = examples_of(help_of(name, monkeypatch, capsys))
    assert any(words[0] == name for words in commands)
    for words in commands:
        module = PROGRAMS[name].split(":")[0]
        assert words[0] == name or module in words, words
        start = 1 if words[0] == name else words.index(module) + 1
        found = parse(name, words[start:], monkeypatch)
        for config in [word for word in words if word.startswith("configs/")]:
            assert (ROOT / config).is_file()
        assert isinstance(found, argparse.Namespace)


@pytest.mark.parametrize("name", PROGRAMS)
def test_options_are_in_groups_and_explained(name, monkeypatch, capsys):
    text = help_of(name, monkeypatch, capsys).split("\nexamples:\n")[0]
    options = re.search(r"^options:\n((?:  .*\n)+)", text, re.MULTILINE)[1]
    first = [line.split()[0] for line in options.splitlines() if re.match("  -", line)]
    # softpool-train has those of Detectron2's own program there.
    assert first == ["-h,"] or name == "softpool-train"
    entries = re.split(r"^(?=  \S)|^\S", text, flags=re.MULTILINE)[1:]
    unexplained = [each for each in entries if not re.search(r"\S( {2,}|\n {6,})\w", each)]
    assert [each for each in unexplained if each.startswith("  -")] == []


def test_defaults_are_shown_once(capsys):
    parser = new_parser("What it does.\n\nExamples:\n    program --size 3\n")
    parser.add_argument("--size", type=int, default=0, help="in %% of it")
    parser.add_argument("--ks", nargs="+", default=[2, 3], help="kernels")
    parser.add_argument("--given", default=5, help="itself (default: five)")
    parser.add_argument("--flag", action="store_true", help="a flag")
    parser.add_argument("--none", help="nothing")
    text = parser.format_help()
    assert "in % of it (default: 0)" in text
    assert "kernels (default: 2 3)" in text
    assert "five)\n" in text
    assert text.count("default:") == 3
    assert text.endswith("examples:\n    program --size 3\n")
    assert "\nWhat it does.\n" in text


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (help .*)$", text, re.MULTILINE)[1].split()
    command = ["make", "--no-print-directory", "help"]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    listed = [line.split(maxsplit=1) for line in made.stdout.splitlines()]
    assert sorted(name for name, _ in listed) == sorted(targets)
    assert set(re.findall(r"^([a-z-]+):", text, re.MULTILINE)) <= set(targets)
