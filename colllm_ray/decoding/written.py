"""What an answer is made of, and where it ends."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from colllm_ray.engine.messages import Sampling


@dataclass(frozen=True)
class WrittenToken:
    """One token of an answer and how it came about: a line of the trace.

    author: 0 the base, 1..M the experts; p_defer: d_t, None where nobody decided; logprob: its author's, natural; top:
    its author's likeliest tokens with their log-probs, best first, as many as were asked for.
    """

    token: int
    author: int
    p_defer: float | None
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """A whole answer; `passes`: forward passes that each model made for it; `seconds` from its start to its end."""

    tokens: tuple[WrittenToken, ...]
    passes: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Terms:
    """How an answer is written.

    It ends with one of `end_tokens` (which is its last token) or after `max_tokens`; without `sampling` every token is
    its author's likeliest. `top`: how many of its author's likeliest tokens are told with each. Experts in `masked` do
    not write; one that fails is masked from then on, unless `needs_all`, where the answer fails with it.
    """

    max_tokens: int
    end_tokens: Set[int]
    sampling: Sampling | None = None
    top: int = 0
    masked: Set[int] = frozenset()
    needs_all: bool = True
