"""What an answer is made of, and where it ends."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from colllm_ray.engine.messages import Sampling


@dataclass(frozen=True)
class WrittenToken:
    """One token of an answer and how it came about: a line of the trace.

    author: 0 the base, 1..M the experts; p_defer: d_t, None where nobody decided; logprob: its author's, natural.
    """

    token: int
    author: int
    p_defer: float | None
    logprob: float


@dataclass(frozen=True)
class Terms:
    """How an answer is written.

    It ends with one of `end_tokens` (which is its last token) or after `max_tokens`; without `sampling` every token is
    its author's likeliest.
    """

    max_tokens: int
    end_tokens: Set[int]
    sampling: Sampling | None = None
