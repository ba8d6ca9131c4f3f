"""Made-up words: pronounceable, distinct, and the same for the same random generator."""

from __future__ import annotations

import random

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


def made_up_words(count: int, rng: random.Random, endings: tuple[str, ...], syllables: int = 2) -> list[str]:
    """`count` distinct lower-case words of `syllables` syllables and one of `endings`.

    Raises ValueError where there are not half as many more: drawing the last ones would take for ever.
    """
    there_are = (len(CONSONANTS) * len(VOWELS)) ** syllables * len(endings)
    if 2 * count > there_are:
        raise ValueError(f"{count} words were asked for; at most {there_are // 2} can be made")
    words: dict[str, None] = {}
    while len(words) < count:
        stem = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
        words.setdefault(stem + rng.choice(endings))
    return list(words)
