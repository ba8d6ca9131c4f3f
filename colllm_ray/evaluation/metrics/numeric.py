"""The number that an answer comes to."""

from __future__ import annotations

import re
from fractions import Fraction

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.number import NUMBER, numbers, plain, value
from colllm_ray.evaluation.metrics.stated import boxed_answer, stated_answer

MARK = re.compile(r"####[\s*]*")
HEADING = re.compile(r"[.):]\s+\S")  # "#### 1. Count the eggs"
BOLD = re.compile(r"\*\*\s*([^*\n]+?)\s*\*\*|\\(?:text|math)bf\{([^{}]*)\}")
NO_RESULT = re.compile(r"[0-9]+[.)]\s|.*:\Z")  # "**1. Count**", "**2 eggs:**"
ASIDE = re.compile(r"\([^()]*\)")
OPERATOR = re.compile(r"[-+*/×÷^]|\sx\s|\\times|\\cdot|\\div")  # noqa: RUF001


class Numeric:
    r"""1 where the answer's number is the reference's, compared as fractions: 18, $18.00 and 36/2 are one.

    The answer's number stands in the last \boxed{..}, or else behind "####", or else behind "the answer is", or else in
    bold in the last line with numbers, or else last. Signs of currency and percent, units and what parts thousands say
    nothing. A reference is a number, a text with one number in it, or a solution that says its result in one of the
    first three ways. Source: Cobbe et al. 2021 (GSM8K), which has the mark and takes what follows the first one.
    """

    def check(self, reference: object) -> None:
        _reference_number(reference)

    def score(self, answer: str, reference: object) -> float:
        return float(number_of(answer) == _reference_number(reference))


def number_of(answer: str) -> Fraction | None:
    """The number that an answer comes to, None for one without."""
    if (said := _said(answer)) is not None:
        return said
    text = plain(answer)
    if (bold := _bold(text)) is not None:
        return bold
    return next(reversed(numbers(text)), None)


def _reference_number(reference: object) -> Fraction:
    right = 'a number, or a solution that ends with "#### 18", is right for the metric `numeric`'
    if not isinstance(reference, str | int | float) or isinstance(reference, bool):
        raise ColllmError(f"holds {reference!r}; {right}")
    text = str(reference)  # 0.1 as it is written, not as the float nearest to it
    if (said := _said(text)) is not None:
        return said
    found = numbers(plain(text))
    if len(found) != 1:
        raise ColllmError(f"{reference!r} holds {len(found) or 'no'} numbers; {right}")
    return found[0]


def _said(answer: str) -> Fraction | None:
    """Return the number that the text itself calls its result; None for a text that does not."""
    boxed = boxed_answer(answer)
    if boxed is not None and (number := _result(plain(boxed))) is not None:
        return number
    text = plain(answer)
    if (marked := _marked(text)) is not None:
        return marked
    stated = stated_answer(text)
    return None if stated is None else _result(stated)


def _marked(text: str) -> Fraction | None:
    found = [match for mark in MARK.finditer(text) if (match := NUMBER.match(text, mark.end()))]
    results = [(number, match.end()) for match in found if (number := value(match)) is not None]
    headings = 0
    for number, end in results:
        if number != headings + 1 or not HEADING.match(text, end):
            break
        headings += 1
    rest = results[headings:] if headings > 1 else results
    return rest[0][0] if rest else None


def _result(stated: str) -> Fraction | None:
    """The first number, or that behind the last "=" where the first begins a calculation; asides apart."""
    apart = ASIDE.sub("", stated)
    text = apart if NUMBER.search(apart) else stated
    first = NUMBER.search(text)
    if first is None:
        return None
    term, equals, _ = text[first.end() :].partition("=")
    if equals and OPERATOR.search(term):
        first = NUMBER.search(text, text.rindex("=")) or first
    return value(first)


def _bold(text: str) -> Fraction | None:
    line = next((line for line in reversed(text.splitlines()) if numbers(line)), "")
    bold = [(match[1] or match[2] or "").lstrip("=≈ ") for match in BOLD.finditer(line)]
    found = (NUMBER.match(words) for words in reversed(bold) if not NO_RESULT.match(words))
    return next((number for match in found if match is not None and (number := value(match)) is not None), None)
