"""What a request's answers cost: tokens, questions and time."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from colllm_ray.serving.api.answers import Costs, MemberUsage, Usage
from colllm_ray.serving.router_client import Chunk


class Bill:
    """What the answers to one request have cost so far; `since` is when it came, on the clock of perf_counter."""

    def __init__(self, members: Sequence[str], prompt_tokens: int, since: float) -> None:
        self._members = members
        self.prompt_tokens = prompt_tokens
        self._since = since
        self._written = [0] * len(members)
        self._calls: dict[int, tuple[int, ...]] = {}  # by answer
        self.first_token_s: float | None = None

    def saw(self, answer: int, chunk: Chunk, tokens: int) -> None:
        """A chunk of an answer, of which so many tokens belong to it."""
        if chunk.tokens and self.first_token_s is None:
            self.first_token_s = self.seconds
        for written in chunk.tokens[:tokens]:
            self._written[written.author] += 1
        self._calls[answer] = chunk.calls

    @property
    def seconds(self) -> float:
        return perf_counter() - self._since

    @property
    def tokens(self) -> int:
        return sum(self._written)

    @property
    def usage(self) -> Usage:
        calls = [sum(each) for each in zip(*self._calls.values(), strict=True)] or [0] * len(self._members)
        models = {
            name: MemberUsage(tokens=tokens, calls=asked)
            for name, tokens, asked in zip(self._members, self._written, calls, strict=True)
        }
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.tokens,
            total_tokens=self.prompt_tokens + self.tokens,
            colllm=Costs(models=models, first_token_s=self.first_token_s, time_s=self.seconds),
        )
