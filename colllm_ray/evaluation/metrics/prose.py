"""The items that a sentence lists: one, two and three."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from colllm_ray.evaluation.metrics.words import normal_text

MARKER = re.compile(
    r"\s*(?:[-*+–—•‣▪●◦·]\s+|[•‣▪●◦]|"  # noqa: RUF001
    r"\(?(?P<number>[0-9]{1,3})(?:[.):]|\s[-–—])\s+|[0-9]{1,3}(?:\)|\.(?=[^\W\d]))|\(?[a-z]\)\s+)(?=\S)",  # noqa: RUF001
    re.IGNORECASE,
)
INTRODUCTIONS = (
    MARKER,
    re.compile(r"(?:[^,;]*|.*\b(?:are|is|includes?|following)):\s+", re.IGNORECASE),
    re.compile(r"[^,;:]*?\b(?:are|is|includes?)\s+", re.IGNORECASE),
    re.compile(r"\s*both\s+", re.IGNORECASE),
)
ENCLOSED = re.compile(r"""\([^()]*\)|\[[^\[\]]*\]|"[^"]*"|“[^“”]*”""")
SEMICOLON = re.compile(r"\s*;\s*(?P<conjunction>(?:and|or)\s+)?", re.IGNORECASE)
COMMA = re.compile(r"\s*,\s+(?P<conjunction>(?:and|or)\s+)?", re.IGNORECASE)
TIGHT_COMMA = re.compile(r"(?P<conjunction>),(?!\s)")
CONJUNCTION = re.compile(r"\s+(?:and|or|&|as well as)\s+", re.IGNORECASE)
IN_BRACKETS = re.compile(r"(?<=\S)\s+(?:\([^()]*\)|\[[^\[\]]*\])\W*\Z")


@dataclass(frozen=True)
class Cut:
    """What may lie between two items. Where it does not part by itself, it does so between two known items."""

    start: int
    end: int
    parts: bool


def items_of_prose(text: str, known: Set[str]) -> list[str]:
    """The items between semicolons, or else between commas, the last two of which "and" may part.

    Known items, by their normal texts, stay whole. What introduces the first item is left out.
    """
    items = _parted(text, known)
    for introduction in INTRODUCTIONS:
        if (items and normal_text(items[0]) in known) or not (match := introduction.match(text)):
            continue
        text = text[match.end() :]
        items = _parted(text, known)
    return [item if normal_text(item) in known else IN_BRACKETS.sub("", item) for item in items]


def _parted(text: str, known: Set[str]) -> list[str]:
    """The parts of a text of which the most is known items, and of these the fewest."""
    cuts = _cuts(text)
    starts, ends = [0, *(cut.end for cut in cuts)], [*(cut.start for cut in cuts), len(text)]
    parts = [True, *(cut.parts for cut in cuts), True]
    last, longest = len(starts), max(map(len, known), default=0)

    def ends_of_known(i: int) -> list[int]:
        found = []
        for j in range(i + 1, last + 1):
            normal = normal_text(IN_BRACKETS.sub("", text[starts[i] : ends[j - 1]]))
            if len(normal) > longest:
                break
            if normal in known:
                found.append(j)
        return found

    # From i on: how many pieces between cuts lie in known items, less the items, and where the first item ends.
    best: list[tuple[int, int, int] | None] = [None] * last + [(0, 0, last)]
    for i in reversed(range(last)):
        options = [(rest[0] + j - i, rest[1] - 1, j) for j in ends_of_known(i) if (rest := best[j]) is not None]
        if parts[i]:
            j = parts.index(True, i + 1)
            rest = best[j]
            assert rest is not None  # as every text may begin behind what parts
            options.append((rest[0], rest[1] - 1, j))
        best[i] = max(options, default=None)

    items, i = [], 0
    while i < last and (step := best[i]) is not None:
        items.append(text[starts[i] : ends[step[2] - 1]].strip())
        i = step[2]
    return [item for item in items if item]


def _cuts(text: str) -> list[Cut]:
    enclosed = [match.span() for match in ENCLOSED.finditer(text)]

    def found(pattern: re.Pattern[str]) -> list[re.Match[str]]:
        return [match for match in pattern.finditer(text) if not any(a <= match.start() < b for a, b in enclosed)]

    separators, others = found(SEMICOLON), []
    if not separators:
        separators, tight = found(COMMA), found(TIGHT_COMMA)
        if separators:
            others = tight
        else:
            separators = [comma for comma in tight if not _within_number(text, comma.start())]
            others = [comma for comma in tight if comma not in separators]
    begins = separators[-1].end() if separators else 0
    ands = [
        word for word in found(CONJUNCTION) if not any(each.start() <= word.start() < each.end() for each in separators)
    ]
    if ands and ands[-1].start() >= begins and not any(each["conjunction"] for each in separators):
        separators.append(ands.pop())  # "one, two and three", but "one, two, and three of four"
    cuts = [Cut(each.start(), each.end(), True) for each in separators]
    cuts += [Cut(each.start(), each.end(), False) for each in (*others, *ands)]
    return sorted(cuts, key=lambda cut: cut.start)


def _within_number(text: str, comma: int) -> bool:
    return text[comma - 1 : comma].isdigit() and text[comma + 1 : comma + 2].isdigit()
