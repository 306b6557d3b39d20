"""Check English against docs/style.md: words that it refuses, sentences that are too long.

python tools/prose.py
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

STYLE = Path("docs/style.md")
LONGEST = 30
# Tests and configs are not read by users; what others wrote, and the two rooms yet to be rewritten.
SKIPPED = re.compile(
    r"tests/|configs/|docs/licenses\.md|CHANGELOG\.md|softpool_det/(classification|video)/"
)
# Between two words: also a line's end within a comment or a string of Python, C++ or Markdown.
_GAP = r'(?: +| *"?\s*\n\s*(?:f?"|#|//|>)? *)'
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def refused() -> re.Pattern:
    """Read the words of the style page's table as one pattern."""
    rows = re.findall(r"^\|[^|]+\|(.*`.*)\|$", STYLE.read_text(), re.MULTILINE)
    phrases = [phrase.split() for row in rows for phrase in re.findall(r"`([^`]+)`", row)]
    words = "|".join(_GAP.join(phrase) for phrase in phrases)
    # "is no longer" is English.
    return re.compile(rf"\b(?:{words})\b(?!{_GAP}(?:longer|larger|smaller|faster|better|more)\b)")


def blank(match: re.Match) -> str:
    """Keep the lines of what is cut out, and a word in its place."""
    return "x" + "\n" * match[0].count("\n")


def paragraphs(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """List prose with its first line: docstrings of Python, Markdown outside tables."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
    elif path.suffix == ".md":
        yield 1, re.sub(r"^\|.*$|\]\([^)]*\)|<[^>]*>", "", text, flags=re.MULTILINE)


def long_sentences(text: str) -> Iterator[tuple[int, str]]:
    """List sentences above `LONGEST` words, with their distance in lines from the start."""
    for sentence in re.finditer(
        r"(?:(?![.!?:;]\)?\s|\n\s*(?:\n|[-*#>|]|\d+\.)).)+", text, re.DOTALL
    ):
        outside_brackets = re.sub(r"\([^()]*\)", "", sentence[0])
        if len(re.findall(r"[^\W\d_][\w'./-]*", outside_brackets)) > LONGEST:
            start = sentence.end() - len(sentence[0].lstrip())
            yield text.count("\n", 0, start), " ".join(sentence[0].split())


def main() -> None:
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    pattern, found = refused(), 0
    for path in map(Path, files.split()):
        if path.suffix not in (".py", ".md", ".html", ".h", ".cpp", ".cu", ".cuh", ".sh"):
            continue
        if SKIPPED.match(str(path)):
            continue
        text = path.read_text()
        prose = _CODE.sub(blank, text) if path.suffix == ".md" else text
        faults = [
            (m.start(), f"refused by {STYLE}: {' '.join(m[0].split())}")
            for m in pattern.finditer(prose)
        ]
        lines = [(prose.count("\n", 0, start) + 1, fault) for start, fault in faults]
        for first, part in paragraphs(path, prose):
            lines += [
                (first + n, f"more than {LONGEST} words: {s}") for n, s in long_sentences(part)
            ]
        found += len(lines)
        for line, fault in sorted(lines):
            print(f"{path}:{line}: {fault}")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
