"""A list of items in any order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.factoid import synonyms_of
from colllm_ray.evaluation.metrics.words import normal_text

RIGHT = "a list of items, each a text or a list of synonyms, is right for the metric `list`"

INTRODUCTION = re.compile(r"\A[^,;\n]*:\s")
# A comma between digits belongs to a name, such as 2,4-dinitrophenol.
SEPARATOR = re.compile(r"[;\n•]|(?<![0-9]),|,(?![0-9])|\s(?=\(?[0-9]{1,2}\)\s)")
MARKER = re.compile(r"\A\s*(?:[-*–·]\s|\(?[0-9]{1,2}[.)]\s|\(?[a-z]\)\s|and\s)*", re.IGNORECASE)  # noqa: RUF001
LAST_AND = re.compile(r"\sand\s", re.IGNORECASE)


class ItemList:
    """F1 of the items named: of the share of the answer's that are right and that of the reference's that are found.

    Items are the same where their normal texts are. An item of the reference counts once: a repetition or synonym of
    one that is found is wrong. Source: the list questions of BioASQ (Tsatsaronis et al. 2015).
    """

    def check(self, reference: object) -> None:
        _reference_items(reference)

    def score(self, answer: str, reference: object) -> float:
        said, right = [normal_text(item) for item in items_of(answer)], _reference_items(reference)
        return 2 * _found(said, right) / (len(said) + len(right))


def items_of(answer: str) -> list[str]:
    """The items of a list in prose or in lines, without bullets, numbers, and what introduces them up to a colon."""
    pieces = [MARKER.sub("", piece).strip() for piece in SEPARATOR.split(INTRODUCTION.sub("", answer, count=1))]
    pieces = [piece for piece in pieces if piece]
    last = LAST_AND.split(pieces[-1]) if pieces else []
    items = pieces[:-1] + ([" and ".join(last[:-1]), last[-1]] if len(last) > 1 else last)
    return [item for item in items if normal_text(item)]


def _reference_items(reference: object) -> list[set[str]]:
    if not isinstance(reference, list) or not reference:
        raise ColllmError(f"holds {reference!r}; {RIGHT}")
    return [{normal_text(synonym) for synonym in synonyms_of(item, RIGHT)} for item in reference]


def _found(said: Sequence[str], right: Sequence[set[str]]) -> int:
    """The most items of the reference that can be paired with items of the answer."""
    pairs: dict[int, str] = {}

    def pair(item: str, taken: set[int]) -> bool:
        # Kuhn's algorithm: an item may take the place of another that finds itself one elsewhere.
        for i, synonyms in enumerate(right):
            if item in synonyms and i not in taken:
                taken.add(i)
                if i not in pairs or pair(pairs[i], taken):
                    pairs[i] = item
                    return True
        return False

    return sum(pair(item, set()) for item in said)
