"""Yes or no."""

from __future__ import annotations

import re

from colllm_ray.errors import ColllmError

YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


class YesNo:
    """1 where the answer's first yes or no is the reference's: "yes", "no", or JSON's true and false.

    Source: the yes/no questions of BioASQ (Tsatsaronis et al. 2015).
    """

    def check(self, reference: object) -> None:
        _is_yes(reference)

    def score(self, answer: str, reference: object) -> float:
        said = YES_NO.search(answer)
        return float(said is not None and (said[1].lower() == "yes") is _is_yes(reference))


def _is_yes(reference: object) -> bool:
    if isinstance(reference, bool):
        return reference
    text = reference.strip().lower() if isinstance(reference, str) else None
    if text not in ("yes", "no"):
        raise ColllmError(f"holds {reference!r}; yes, no, true or false is right for the metric `yes_no`")
    return text == "yes"
