r"""The result that a text itself calls the answer: \boxed{18}, "the answer is 18", "Answer: 18"."""

from __future__ import annotations

import re

# \boxed 5, without braces, stands in some solutions of MATH.
BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|(?:\s+|(?=[\\0-9-]))(?P<bare>[^{}$\s][^{}$\n]*?)\s*(?=[$\n]|\.\s|\.?\Z))")
BOX_OR_BRACE = re.compile(rf"{BOX.pattern}|\\?[{{}}]")

SAYS = re.compile(
    r"\banswer[*_\s]*(?:is|equals|would be|should be)\b[\s*:]*|\bfinal answer[*_]*[^\S\n]*[:=\n][\s*]*", re.IGNORECASE
)
# A whole chain of thought can begin with "Answer:". A few words that end the line are a result.
LABEL = re.compile(
    r"^[^A-Za-z0-9\n]*(?:the )?answer[*_]*[^\S\n]*[:=\n][\s*]*(?=(?:\S?[0-9]+[ ])*\S+(?:[ ]\S+){0,2}[^\S\n]*$)",
    re.IGNORECASE | re.MULTILINE,
)
ENDS = re.compile(r"\n|\.(?=[\s*]|$)")  # a point within a number ends nothing


def stated_answer(text: str) -> str | None:
    """Return the rest of the sentence behind the last "the answer is" or "Answer:"; None for a text without."""
    ends = [mark.end() for pattern in (SAYS, LABEL) for mark in pattern.finditer(text)]
    return ENDS.split(text[max(ends) :], maxsplit=1)[0].strip("* \t") if ends else None


def boxed_answer(text: str) -> str | None:
    """Return the content of the last box that is closed; None for a text without."""
    found: list[tuple[int, str]] = []
    opened: list[re.Match[str]] = []
    for mark in BOX_OR_BRACE.finditer(text):
        if mark["bare"]:
            found.append((mark.start(), mark["bare"]))
        elif mark[0] == "}" and opened:
            opening = opened.pop()
            if opening[0] != "{":
                found.append((opening.start(), text[opening.end() : mark.start()]))
        elif mark[0].endswith("{") and mark[0] != r"\{":  # \{ and \} are signs, not groups
            opened.append(mark)
    return max(found)[1] if found else None
