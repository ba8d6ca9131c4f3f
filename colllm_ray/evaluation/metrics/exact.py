"""Exact match."""

from __future__ import annotations

from colllm_ray.errors import ColllmError


class Exact:
    """1 where the answer is the reference's text, but for the whitespace around them."""

    def check(self, reference: object) -> None:
        if not isinstance(reference, str):
            raise ColllmError(f"holds {reference!r}; a text is right for the metric `exact`")

    def score(self, answer: str, reference: object) -> float:
        return float(answer.strip() == str(reference).strip())
