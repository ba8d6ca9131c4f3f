"""The items that a text lists."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from itertools import islice, pairwise

from colllm_ray.evaluation.metrics.prose import IN_BRACKETS, MARKER, items_of_prose
from colllm_ray.evaluation.metrics.words import normal_text

BEFORE_BULLET = re.compile(r"(?<=\S)[^\S\n]+(?=[•‣▪●◦·]\s*\S)")
_NUMBER = r"\(?([0-9]{1,2})[.)]\s+(?=\S)"
NUMBER = re.compile(rf"(?<!\S){_NUMBER}")
BEFORE_NUMBER = re.compile(rf"(?<=\S)[^\S\n]+(?={_NUMBER})")
CONJUNCTION = re.compile(r"\s*(?:and|or)\s+", re.IGNORECASE)
ENDING = re.compile(r"(?:[\s,;]+(?:and|or))?[\s,;]*\Z", re.IGNORECASE)
OVER = re.compile(r"\s*#+\s|.*:\s*\Z")
NO_WORD = re.compile(r"[\W_]*")
SENTENCE = re.compile(r"\b(?:are|is|includes?|following)\b", re.IGNORECASE)
EXPLAINS = re.compile(r"(?<=\S)(?::\s|\s[-–—]\s)")  # noqa: RUF001
MOST_EXPLAIN = 8
FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
ENCLOSED = re.compile(r"""\[([^\[\]]*)\]|\(([^()]*)\)|"([^"]*)"|“([^“”]*)”""")


def items_of(text: str, known: Set[str] = frozenset()) -> list[str]:
    """Return the items of a list, without markers, introduction and explanations.

    A list is parted in one way: by bullets or numbers, or else by lines, or else as prose. Items whose normal texts are
    `known` stay whole.
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
    if len(lines) > 1 or not lines or (_mark(lines[0], known) and normal_text(names[0]) in known):
        return names
    return items_of_prose(lines[0], known)


def _array(text: str) -> list[str] | None:
    """Return the items of a JSON array; None for any other text."""
    try:
        array = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return [str(item) for item in array] if isinstance(array, list) else None


def _inline_as_lines(text: str) -> str:
    """Break "one • two" and, where the numbers count up, "1) one 2) two" into lines."""
    if BEFORE_BULLET.search(text):
        return BEFORE_BULLET.sub("\n", text)
    numbers = [int(number) for number in NUMBER.findall(text)]
    counts_up = len(numbers) > 1 and all(after == before + 1 for before, after in pairwise(numbers))
    return BEFORE_NUMBER.sub("\n", text) if counts_up else text


def _item_lines(text: str, known: Set[str]) -> list[str]:
    """Return the lines that hold items: all that have a marker, or else all."""
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line, below in zip(lines, [*lines[1:], ""], strict=False) if not _leads(line, below, known)]
    marks = [_mark(line, known) for line in lines]
    if not any(marks):
        goes_on = any(line.rstrip().endswith(",") for line in lines[:-1])
        return [" ".join(lines)] if goes_on else lines
    # Where "1." was at the end of the prompt, the first item has no marker.
    begins = marks[0] is None and marks[1] is not None and marks[1]["number"] != "1" and not SENTENCE.search(lines[0])
    marked = [line for line, mark in zip(lines, marks, strict=True) if mark or CONJUNCTION.match(line)]
    return lines[:1] + marked if begins else marked


def _leads(line: str, below: str, known: Set[str]) -> bool:
    """Return whether a line introduces those below it, or holds no words."""
    if normal_text(line) in known:
        return False
    marked = MARKER.match(line)
    return bool((OVER.match(line) and (MARKER.match(below) or not marked)) or NO_WORD.fullmatch(line))


def _mark(line: str, known: Set[str]) -> re.Match[str] | None:
    """Find the bullet or number before an item; a number that belongs to a known item is none."""
    mark = MARKER.match(line)
    return None if mark and re.search(r"\w", mark[0]) and normal_text(_name(line, known)) in known else mark


def _bare(line: str, known: Set[str]) -> str:
    """Remove markers, and the "; and" that leads to the next line."""
    while mark := _mark(line, known) or CONJUNCTION.match(line):
        line = line[mark.end() :]
    return (line if normal_text(line) in known else ENDING.sub("", line)).strip()


def _name(item: str, known: Set[str]) -> str:
    """Remove the explanation: where several places can begin one, so that the item is known."""
    signs = list(islice(EXPLAINS.finditer(item), MOST_EXPLAIN))
    heads = [item, *(item[: sign.start()] for sign in reversed(signs))]
    names = [name for head in heads for name in (head, IN_BRACKETS.sub("", head))]
    return next((name for name in names if normal_text(name) in known), names[-1])
