"""How many words an answer and a short reference share."""

from __future__ import annotations

from collections import Counter

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.words import normal_words


class Factoid:
    """F1 of the answer's words, the best over the reference's synonyms.

    A reference is a text or a list of synonyms. Source: SQuAD (Rajpurkar et al. 2016), for the factoid questions of
    BioASQ (Tsatsaronis et al. 2015).
    """

    def check(self, reference: object) -> None:
        synonyms_of(reference, "a text, or a list of synonyms, is right for the metric `factoid`")

    def score(self, answer: str, reference: object) -> float:
        return max(_word_f1(normal_words(answer), normal_words(synonym)) for synonym in synonyms_of(reference))


def synonyms_of(value: object, right: str = "") -> list[str]:
    """A text, or all texts of a list. Raises ColllmError, with what is `right`, for anything else."""
    synonyms = [value] if isinstance(value, str) else value
    if not isinstance(synonyms, list) or not synonyms:
        raise ColllmError(f"holds {value!r}; {right}")
    texts = [synonym for synonym in synonyms if isinstance(synonym, str) and synonym.strip()]
    if len(texts) < len(synonyms):
        raise ColllmError(f"holds {value!r}, in which something is no text or an empty one; {right}")
    return texts


def _word_f1(answer: list[str], reference: list[str]) -> float:
    shared = sum((Counter(answer) & Counter(reference)).values())
    return 2 * shared / (len(answer) + len(reference))
