"""The mathematical expression that an answer comes to."""

from __future__ import annotations

import re

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.stated import BOX, boxed_answer, stated_answer
from colllm_ray.evaluation.metrics.verifier import Verifier

LONGEST = 500  # characters of an expression; the parser takes seconds for more

IN_STARS = re.compile(r"(\*\*)(.+?)\1")
IN_DOLLARS = re.compile(r"(\$\$?)(.+?)\1")
IN_BRACKETS = re.compile(r"\\[(\[](.+?)\\[)\]]")


class Mathematics:
    r"""1 where the answer's expression is worth the same as the reference's: \frac{1}{2}, 0.5 and 1/2 are one.

    The expression stands in the last \boxed{..}, or else behind "the answer is", or else is the whole text. A reference
    is a solution with a \boxed{..}, the bare expression, or a number. Source: Hendrycks et al. 2021 (MATH); equivalence
    is Math-Verify's. Raises ColllmError where that is not installed.
    """

    def __init__(self) -> None:
        self._verifier = Verifier()

    def check(self, reference: object) -> None:
        _reference_expression(reference)

    def score(self, answer: str, reference: object) -> float:
        said, right = expression_of(answer), _reference_expression(reference)
        return float(said is not None and (said == right or self._verifier.equivalent(right, said)))


def expression_of(text: str) -> str | None:
    """The expression that a solution comes to, None where it has none."""
    found = boxed_answer(text)
    if found is None:
        if BOX.search(text):  # and never closed
            return None
        found = stated_answer(text) or text
        for pattern in (IN_STARS, IN_DOLLARS, IN_BRACKETS):
            if match := pattern.match(found.strip()):
                found = match[match.re.groups]
    found = found.strip().rstrip(".").rstrip()
    return found if 0 < len(found) <= LONGEST else None


def _reference_expression(reference: object) -> str:
    number = isinstance(reference, int | float) and not isinstance(reference, bool)
    expression = expression_of(str(reference)) if number or isinstance(reference, str) else None
    if expression is None:
        raise ColllmError(
            rf"holds {reference!r}; a solution with \boxed{{..}}, or the bare answer, is right for the metric `math`"
        )
    return expression
