"""Made-up words: pronounceable, distinct, and the same for the same random generator."""

from __future__ import annotations

import random

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


def made_up_words(count: int, rng: random.Random, endings: tuple[str, ...], syllables: int = 2) -> list[str]:
    """`count` distinct lower-case words of `syllables` syllables and one of `endings`."""
    words: dict[str, None] = {}
    while len(words) < count:
        stem = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
        words.setdefault(stem + rng.choice(endings))
    return list(words)
