"""Yes or no."""

from __future__ import annotations

import re

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.stated import boxed_answer, stated_answer

YES_NO = re.compile(r"(?<![\w-])(yes|no)(?![\w-])", re.IGNORECASE)  # not in "no-one"


class YesNo:
    r"""1 where the answer's yes or no is the reference's: "yes", "no", or JSON's true and false.

    It stands in the last \boxed{..}, or else behind "the answer is", or else first in the text. Source: the yes/no
    questions of BioASQ (Tsatsaronis et al. 2015).
    """

    def check(self, reference: object) -> None:
        _is_yes(reference)

    def score(self, answer: str, reference: object) -> float:
        places = (boxed_answer(answer), stated_answer(answer), answer)
        said = next((match[1].lower() for text in places if text and (match := YES_NO.search(text))), None)
        return float(said is not None and (said == "yes") is _is_yes(reference))


def _is_yes(reference: object) -> bool:
    if isinstance(reference, bool):
        return reference
    text = reference.strip().lower() if isinstance(reference, str) else None
    if text not in ("yes", "no"):
        raise ColllmError(f"holds {reference!r}; yes, no, true or false is right for the metric `yes_no`")
    return text == "yes"
