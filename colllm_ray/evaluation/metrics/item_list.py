"""A list of items in any order."""

from __future__ import annotations

from collections.abc import Sequence

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.factoid import synonyms_of
from colllm_ray.evaluation.metrics.items import items_of
from colllm_ray.evaluation.metrics.words import normal_text

RIGHT = "a list of items, each a text or a list of synonyms, is right for the metric `list`"


class ItemList:
    """F1 of the items named: of the share of the answer's that are right and that of the reference's that are found.

    Items are the same where their normal texts are. An item of the reference counts once: a repetition or synonym of
    one that is found is wrong. Source: the list questions of BioASQ (Tsatsaronis et al. 2015).
    """

    def check(self, reference: object) -> None:
        _reference_items(reference)

    def score(self, answer: str, reference: object) -> float:
        right = _reference_items(reference)
        said = [normal_text(item) for item in items_of(answer, frozenset().union(*right))]
        return 2 * _found(said, right) / (len(said) + len(right))


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
