r"""The result that a text itself calls the answer: \boxed{18}, "the answer is 18", "Answer: 18"."""

from __future__ import annotations

import re

# \boxed 5, without braces, stands in some solutions of MATH.
BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?P<bare>[^{}$\s][^{}$\n]*?)\s*(?=[$\n]|\.\s|\.?\Z))")
BRACE = re.compile(r"\\?[{}]")

SAYS = re.compile(
    r"\banswer[*_\s]*(?:is|equals|would be|should be)\b[\s*:]*|\bfinal answer[*_]*[^\S\n]*[:=\n][\s*]*", re.IGNORECASE
)
# A whole chain of thought can begin with "Answer:". A few words that end the line are a result.
LABEL = re.compile(
    r"^[^A-Za-z0-9\n]*(?:the )?answer[*_]*[^\S\n]*[:=\n][\s*]*(?=\S+(?:[ ]\S+){0,2}[^\S\n]*$)",
    re.IGNORECASE | re.MULTILINE,
)
ENDS = re.compile(r"\n|\.(?=[\s*]|$)")  # a point within a number ends nothing


def stated_answer(text: str) -> str | None:
    """The rest of the sentence behind the last "the answer is" or "Answer:"; None for a text that says neither."""
    ends = [mark.end() for pattern in (SAYS, LABEL) for mark in pattern.finditer(text)]
    return ENDS.split(text[max(ends) :], maxsplit=1)[0].strip() if ends else None


def boxed_answer(text: str) -> str | None:
    """What stands in the last box that is closed; None for a text without."""
    for box in reversed(list(BOX.finditer(text))):
        content = box["bare"] or _closed(text, box.end())
        if content is not None:
            return content
    return None


def _closed(text: str, start: int) -> str | None:
    depth = 1
    for brace in BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)  # \{ and \} are signs, not groups
        if depth == 0:
            return text[start : brace.start()]
    return None
