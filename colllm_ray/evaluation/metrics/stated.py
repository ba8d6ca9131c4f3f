"""The result that a text itself calls the answer."""

from __future__ import annotations

import re

ANSWER_IS = re.compile(r"\banswer is\b:?\s*", re.IGNORECASE)
ENDS = re.compile(r"\n|\.(?=\s|$)")  # a point within a number ends nothing


def stated_answer(text: str) -> str | None:
    """The rest of the sentence behind the last "the answer is"; None for a text that does not say it."""
    *_, mark = (None, *ANSWER_IS.finditer(text))
    return None if mark is None else ENDS.split(text[mark.end() :], maxsplit=1)[0].strip()
