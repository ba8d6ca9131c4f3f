"""README and docs, taken apart: commands, descriptions in YAML, links and paths, each with where it stands.

Files for clusters begin with commands as comments; those are taken too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "clusters", "jobs")  # whose READMEs are documents too
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(file for folder in FOLDERS if (file := ROOT / folder / "README.md").exists()),
]
COMMENTED = [*sorted((ROOT / "clusters").rglob("*.yaml")), ROOT / "clusters" / "Dockerfile"]
MARKDOWN = MarkdownIt("commonmark").enable("table")
PARAGRAPHS = re.compile(r"\n\s*\n")
CONTINUED = re.compile(r"\\\n\s*")


@dataclass(frozen=True)
class Piece:
    """Some text of a document."""

    document: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}: {self.text.splitlines()[0]}"


def _tokens(document: Path) -> Iterator[tuple[int, Token]]:
    """All of them, inline ones too, each with its line: that of the paragraph or block that it is in."""
    line = 0
    for token in MARKDOWN.parse(document.read_text(encoding="utf-8")):
        if token.map:
            line = token.map[0] + 1
        yield line, token
        for child in token.children or ():
            yield line, child


def _pieces(document: Path, kind: str, attribute: str | None = None) -> list[Piece]:
    found = [(line, token) for line, token in _tokens(document) if token.type == kind]
    return [Piece(document, line, str(token.attrs[attribute]) if attribute else token.content) for line, token in found]


def commented_commands() -> list[Piece]:
    """The lines of comments that are set in as commands are."""
    return [
        Piece(file, number, line.removeprefix("#   "))
        for file in COMMENTED
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if re.match(r"#   \S", line)
    ]


def paragraphs() -> list[Piece]:
    """The parts of code blocks between empty lines, without those that are comments alone."""
    blocks = [block for document in DOCUMENTS for kind in ("code_block", "fence") for block in _pieces(document, kind)]
    parts = [Piece(one.document, one.line, part.strip("\n")) for one in blocks for part in PARAGRAPHS.split(one.text)]
    return [one for one in parts if any(line and not line.startswith("#") for line in one.text.split("\n"))]


@cache
def inline_codes() -> list[Piece]:
    return [one for document in DOCUMENTS for one in _pieces(document, "code_inline")]


@cache
def links() -> list[Piece]:
    """Where links lead, and where pictures lie."""
    kinds = (("link_open", "href"), ("image", "src"))
    return [one for document in DOCUMENTS for kind in kinds for one in _pieces(document, *kind)]


def anchors(document: Path) -> set[str]:
    """What links to a part of the document may name."""
    tokens = [token for _, token in _tokens(document)]
    headings = [text.content for opened, text in pairwise(tokens) if opened.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(paragraph: Piece) -> list[list[str]]:
    """The arguments of each line; what sets a variable for a command, or times it, is left out."""
    lines = CONTINUED.sub(" ", paragraph.text).splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [command for words in split if (command := without_prefix(words))]


def without_prefix(words: list[str]) -> list[str]:
    while words and (words[0] == "time" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    return words
