"""The items that a text lists."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from itertools import pairwise

from colllm_ray.evaluation.metrics.prose import IN_BRACKETS, MARKER, items_of_prose
from colllm_ray.evaluation.metrics.words import normal_text

_INLINE_MARKER = r"(?:[•‣▪●◦·]\s*|\(?(?P<number>[0-9]{1,2})[.)]\s+)(?=\S)"
INLINE_MARKER = re.compile(rf"(?<!\S){_INLINE_MARKER}")
BEFORE_INLINE_MARKER = re.compile(rf"(?<=\S)[^\S\n]+(?={_INLINE_MARKER})")
CONJUNCTION = re.compile(r"\s*(?:and|or)\s+", re.IGNORECASE)
ENDING = re.compile(r"(?:[\s,;]+(?:and|or))?[\s,;]*\Z", re.IGNORECASE)
OVER = re.compile(r"\s*#+\s|.*:\s*\Z")
NO_WORD = re.compile(r"[\W_]*")
SENTENCE = re.compile(r"\b(?:are|is|includes?|following)\b", re.IGNORECASE)
EXPLANATION = re.compile(r"(?<=\S)(?::\s|\s[-–—]\s).*", re.DOTALL)  # noqa: RUF001
FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
ENCLOSED = re.compile(r"""\[(.*)\]|"([^"]*)"|“([^“”]*)”""", re.DOTALL)


def items_of(text: str, known: Set[str] = frozenset()) -> list[str]:
    """The items of a list, without what marks, introduces or explains them.

    A list is parted in one way: by bullets or numbers, or else by lines, or else as prose. `known` are normal texts of
    items, which stay whole wherever a text has them.
    """
    text = text.strip().replace("**", "")
    if match := FENCED.fullmatch(text):
        text = match[1]
    if (array := _array(text)) is not None:
        return array
    if (match := ENCLOSED.fullmatch(text)) and normal_text(text) not in known:
        text = match[match.lastindex or 0]
    lines = _item_lines(_inline_as_lines(text), known)
    names = [_name(_bare(line, known), known) for line in lines]
    return items_of_prose(lines[0], known) if len(lines) == 1 and normal_text(names[0]) not in known else names


def _array(text: str) -> list[str] | None:
    """The items of a JSON array."""
    try:
        array = json.loads(text) if text.startswith("[") else None
    except ValueError:
        return None
    return [str(item) for item in array] if isinstance(array, list) else None


def _inline_as_lines(text: str) -> str:
    """A line for each item of "1) one 2) two", whose numbers count up."""
    marks = list(INLINE_MARKER.finditer(text))
    numbers = [int(mark["number"]) for mark in marks if mark["number"]]
    counts_up = all(after == before + 1 for before, after in pairwise(numbers))
    parts = len(marks) > (1 if numbers else 0) and counts_up
    return BEFORE_INLINE_MARKER.sub("\n", text) if parts else text


def _item_lines(text: str, known: Set[str]) -> list[str]:
    """The lines that are items: where some are marked, those."""
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line, below in zip(lines, [*lines[1:], ""], strict=False) if not _leads(line, below, known)]
    marks = [_mark(line, known) for line in lines]
    if not any(marks):
        goes_on = any(line.rstrip().endswith(",") for line in lines[:-1])
        return [" ".join(lines)] if goes_on else lines
    if marks[0] is None and not _begins(lines[0], marks[1]):
        lines, marks = lines[1:], marks[1:]
    return [
        line
        for i, (line, mark) in enumerate(zip(lines, marks, strict=True))
        if mark or not i or CONJUNCTION.match(line)
    ]


def _begins(line: str, mark: re.Match[str] | None) -> bool:
    """Whether a line without a marker is the item before the first one that has it.

    So it is where "1." was at the end of the prompt.
    """
    return mark is not None and mark["number"] != "1" and not SENTENCE.search(line)


def _leads(line: str, below: str, known: Set[str]) -> bool:
    """Whether a line is what stands over a list, or a rule."""
    if normal_text(line) in known:
        return False
    marked = MARKER.match(line)
    return bool((OVER.match(line) and (MARKER.match(below) or not marked)) or NO_WORD.fullmatch(line))


def _mark(line: str, known: Set[str]) -> re.Match[str] | None:
    """The bullet or number before an item; none where the number is a known item's own."""
    mark = MARKER.match(line)
    return None if mark and normal_text(line) in known and re.search(r"\w", mark[0]) else mark


def _bare(line: str, known: Set[str]) -> str:
    """A line without its markers, and without what joins it to the next."""
    while mark := _mark(line, known) or CONJUNCTION.match(line):
        line = line[mark.end() :]
    return (line if normal_text(line) in known else ENDING.sub("", line)).strip()


def _name(item: str, known: Set[str]) -> str:
    """An item without its explanation."""
    return item if normal_text(item) in known else IN_BRACKETS.sub("", EXPLANATION.sub("", item))
