"""Texts as they are compared where case, punctuation and articles say nothing."""

from __future__ import annotations

import string
import unicodedata
from functools import cache

ARTICLES = frozenset({"a", "an", "the"})


def normal_words(text: str) -> list[str]:
    """The words in lower case, without punctuation and articles; those of a text that has nothing else stay.

    Source: the evaluation of SQuAD (Rajpurkar et al. 2016).
    """
    lower = text.lower()
    bare = "".join(sign for sign in lower if not _is_punctuation(sign))
    words = unicodedata.normalize("NFC", bare).split()  # ö is one sign or two
    return [word for word in words if word not in ARTICLES] or words or lower.split()


def normal_text(text: str) -> str:
    """The words of a text as one."""
    return " ".join(normal_words(text))


@cache
def _is_punctuation(sign: str) -> bool:
    return sign in string.punctuation or unicodedata.category(sign).startswith("P")
