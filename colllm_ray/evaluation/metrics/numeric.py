"""The number that an answer comes to."""

from __future__ import annotations

import re
from fractions import Fraction

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.stated import stated_answer

LONGEST = 300  # characters of a number; Python refuses to read integers of some thousands

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]+)?|(?<!\.)\.[0-9]+)(?:[eE][-+]?[0-9]{{1,2}}(?![0-9A-Za-z]))?"
NUMBER = re.compile(
    r"(?<![^\W_])(?<![0-9]\.)"  # no part of a word, or of a longer number
    r"(?:(?<!\))(?P<minus>[-−–]))?"  # noqa: RUF001
    r"(?:\\?[$€£¥₹]\s?(?P<inner_minus>[-−–])?)?"  # noqa: RUF001
    rf"(?:(?:(?P<whole>{_INTEGER})[ ])?(?P<numerator>{_INTEGER})[ ]?/[ ]?(?P<denominator>{_INTEGER})(?!\.?[0-9])"
    rf"|(?P<decimal>{_DECIMAL}))"
)
MARK = re.compile(r"####[\s*]*")
FRAC = re.compile(rf"([0-9]?)\s?\\[dt]?frac\{{({_INTEGER})\}}\{{({_INTEGER})\}}")
ASIDE = re.compile(r"\([^()]*\)")
OPERATOR = re.compile(r"[-+*/×÷^]|\sx\s|\\times|\\cdot|\\div")  # noqa: RUF001


class Numeric:
    """1 where the answer's number is the reference's, compared as fractions: 18, $18.00 and 36/2 are one.

    The answer's number stands behind "####", or else behind "the answer is", or else last. Signs of currency and
    percent, units and the commas of thousands say nothing. A reference is a number, a text with one number in it, or a
    solution that ends with "#### 18". Source: Cobbe et al. 2021 (GSM8K), which has the mark and takes what follows the
    first one.
    """

    def check(self, reference: object) -> None:
        _reference_number(reference)

    def score(self, answer: str, reference: object) -> float:
        return float(number_of(answer) == _reference_number(reference))


def number_of(answer: str) -> Fraction | None:
    """The number that an answer comes to, None for one without."""
    text = _plain(answer)
    if (marked := _marked(text)) is not None:
        return marked
    stated = stated_answer(text)
    if stated is not None and (number := _result(stated)) is not None:
        return number
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _reference_number(reference: object) -> Fraction:
    right = 'a number, or a solution that ends with "#### 18", is right for the metric `numeric`'
    if isinstance(reference, str):
        text = _plain(reference)
        marked, numbers = _marked(text), _numbers(text)
        if marked is None and len(numbers) != 1:
            raise ColllmError(f"{reference!r} holds {len(numbers) or 'no'} numbers; {right}")
        return numbers[0] if marked is None else marked
    if isinstance(reference, int | float) and not isinstance(reference, bool):
        try:
            return Fraction(str(reference))  # 0.1 as it is written, not as the float nearest to it
        except ValueError:  # NaN and Infinity
            pass
    raise ColllmError(f"holds {reference!r}; {right}")


def _marked(text: str) -> Fraction | None:
    matches = (NUMBER.match(text, mark.end()) for mark in MARK.finditer(text))
    return next((_value(match) for match in matches if match is not None), None)


def _result(stated: str) -> Fraction | None:
    """The first number, or that behind the last "=" where the first begins a calculation; asides apart."""
    plain = ASIDE.sub("", stated)
    text = plain if NUMBER.search(plain) else stated
    first = NUMBER.search(text)
    if first is None:
        return None
    term, equals, _ = text[first.end() :].partition("=")
    if equals and OPERATOR.search(term):
        first = NUMBER.search(text, text.rindex("=")) or first
    return _value(first)


def _numbers(text: str) -> list[Fraction]:
    values = (_value(match) for match in NUMBER.finditer(text))
    return [value for value in values if value is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    """None for what is no number after all: a division by zero, or endless digits."""
    if len(match[0]) > LONGEST:
        return None
    whole, numerator, denominator, decimal = (
        (match[name] or "0").replace(",", "") for name in ("whole", "numerator", "denominator", "decimal")
    )
    if match["denominator"] is None:
        value = Fraction(decimal)
    elif int(denominator) == 0:
        return None
    else:
        value = int(whole) + Fraction(int(numerator), int(denominator))
    return -value if match["minus"] or match["inner_minus"] else value


def _plain(text: str) -> str:
    """Without what LaTeX writes within numbers, and with its fractions as 1/2."""
    for spacing, plain in ((r"\,", ""), (r"\!", ""), ("{,}", ",")):
        text = text.replace(spacing, plain)
    return FRAC.sub(lambda match: f"{match[1]} {match[2]}/{match[3]}" if match[1] else f"{match[2]}/{match[3]}", text)
