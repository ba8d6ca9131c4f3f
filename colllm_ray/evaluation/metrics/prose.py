"""The items that a sentence lists: one, two and three."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from colllm_ray.evaluation.metrics.words import normal_text

MARKER = re.compile(
    r"\s*(?:[-*+–—•‣▪●◦·]\s+|[•‣▪●◦]|"  # noqa: RUF001
    r"\(?(?P<number>[0-9]{1,3})(?:[.):]|\s[-–—])\s+|[0-9]{1,3}(?:\)|\.(?=[^\W\d]))|\(?[a-z]\)\s+)(?=\S)",  # noqa: RUF001
    re.IGNORECASE,
)
COLON = re.compile(r"(?:[^,;]*?|.*?\b(?:are|is|includes?|following)):\s+", re.IGNORECASE)
VERB = re.compile(r"[^,;:]*?\b(?:are|is|includes?)\s+", re.IGNORECASE)
BOTH = re.compile(r"\s*both\s+", re.IGNORECASE)
INTRODUCTIONS = (MARKER, VERB, *[COLON] * 4, VERB, BOTH)
ENCLOSED = re.compile(r"""\([^()]*\)|\[[^\[\]]*\]|"[^"]*"|“[^“”]*”""")
IN_BRACKETS = re.compile(r"(?<=\S)\s+(?:\([^()]*\)|\[[^\[\]]*\])\W*\Z")
CUT = re.compile(
    r"\s*(?P<semicolon>;)\s*(?:(?:and|or)\s+)?|\s*(?P<comma>,)\s+(?:(?:and|or)\s+)?"
    r"|(?<=[0-9]),(?=[0-9])|(?P<tight_comma>,)"  # 2,4-dinitrophenol
    r"|\s+(?P<word>and|or|&|as well as)(?=\s)",
    re.IGNORECASE,
)
CONJUNCTION = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)


def items_of_prose(text: str, known: Set[str]) -> list[str]:
    """Return the items between semicolons, or else between commas; "and" may part the last two.

    Items whose normal texts are `known` stay whole. The introduction of the first item is removed.
    """
    text = text.rstrip(" ,;")
    items = _parted(text, known)
    for introduction in INTRODUCTIONS:
        if (items and _is_known(items[0], known)) or not (match := introduction.match(text)):
            continue
        rest = _parted(text[match.end() :], known)
        if sum(_is_known(item, known) for item in rest) >= sum(_is_known(item, known) for item in items):
            text, items = text[match.end() :], rest
    return [item if normal_text(item) in known else IN_BRACKETS.sub("", item) for item in items]


def _parted(text: str, known: Set[str]) -> list[str]:
    enclosed = {place for match in ENCLOSED.finditer(text) for place in range(*match.span())}
    cuts = [cut for cut in CUT.finditer(text) if cut.start() not in enclosed]
    cuts = _outside_known(text, cuts, known)
    parting = _parting(cuts)
    groups: list[list[tuple[int, int]]] = [[]]
    for cut, piece in zip([None, *cuts], _pieces(text, cuts), strict=True):
        if cut in parting:
            groups.append([])
        groups[-1].append(piece)
    items = []
    for group in groups:
        each = [text[start:end] for start, end in group]
        # "one and two and three": the first "and" parts only where known items lie on both sides.
        items += each if all(_is_known(item, known) for item in each) else [text[group[0][0] : group[-1][1]]]
    return [item.strip() for item in items if item.strip()]


def _parting(cuts: Sequence[re.Match[str]]) -> set[re.Match[str]]:
    """Return the cuts of the one kind that parts this list, and the "and" between its last two items."""
    kinds = ([cut for cut in cuts if cut[kind]] for kind in ("semicolon", "comma", "tight_comma"))
    parting = next(filter(None, kinds), [])
    last = next((cut for cut in reversed(cuts) if cut["word"]), None)
    joined = any(CONJUNCTION.search(cut[0]) for cut in parting)  # "one, two, and bed and breakfast"
    if last and not joined and (not parting or parting[-1].start() < last.start()):
        parting.append(last)
    return set(parting)


def _outside_known(text: str, cuts: Sequence[re.Match[str]], known: Set[str]) -> list[re.Match[str]]:
    """Return the cuts that lie in no known item; of several that begin at one place, the longest counts."""
    pieces, longest = _pieces(text, cuts), max(map(len, known), default=0)
    outside: list[re.Match[str]] = []
    i = 0
    while i < len(cuts):
        end = i
        for j in range(i, len(pieces)):
            item = text[pieces[i][0] : pieces[j][1]]
            if len(normal_text(IN_BRACKETS.sub("", item))) > longest:
                break
            if _is_known(item, known):
                end = j
        outside += cuts[end : end + 1]
        i = end + 1
    return outside


def _pieces(text: str, cuts: Sequence[re.Match[str]]) -> list[tuple[int, int]]:
    """Return start and end of each text between cuts."""
    return list(zip([0, *(cut.end() for cut in cuts)], [*(cut.start() for cut in cuts), len(text)], strict=True))


def _is_known(item: str, known: Set[str]) -> bool:
    return normal_text(item) in known or normal_text(IN_BRACKETS.sub("", item)) in known
