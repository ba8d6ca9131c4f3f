"""What a forward pass costs, and with it the sequential ideal: what the plain loop would take without anything else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import mean
from time import perf_counter
from uuid import uuid4

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.messages import Extend, Extended
from colllm_ray.engine.stepping import StepsTexts

COUNTS = (1, 1, 1, 2, 4, 8, 16, 32)  # tokens at once: most steps take in one; in between lies a line


@dataclass(frozen=True)
class StepCosts:
    """Seconds of one forward pass over 1, 2, 3, .. tokens of one session, on an engine that does nothing else."""

    by_tokens: dict[int, float]

    def of(self, tokens: int) -> float:
        """On the line through the two counts measured that are next to it, beyond them too."""
        at = sorted(self.by_tokens)
        above = bisect_left(at, tokens, lo=1, hi=len(at) - 1)
        one, other = at[above - 1], at[above]
        share = (tokens - one) / (other - one)
        return (1 - share) * self.by_tokens[one] + share * self.by_tokens[other]


class CostMeter:
    """Says what forward passes of an engine cost, from samples that are taken while nothing else runs on it.

    A machine's speed drifts from second to second, and for minutes: samples belong between the tokens of what they are
    compared with, many of them, and their mean, because what slows them down slows those tokens down as well.
    """

    def __init__(self, engine: StepsTexts, at: int) -> None:
        """A session of `at` tokens is what takes the others in."""
        self._engine, self._at, self._session = engine, at, uuid4().hex
        self._tokens = cycle((6, 7))
        self._extend(0, (5,) * at)
        self._seconds: dict[int, list[float]] = {}
        self.sample()
        self._seconds.clear()  # the first time may have had to set things up

    def sample(self) -> None:
        """Runs a forward pass of each count."""
        for tokens in COUNTS:
            if self._at + tokens <= self._engine.context:
                first = next(self._tokens)  # never that of the pass before, so that all is computed
                begin = perf_counter()
                self._extend(self._at, (first, *range(8, 7 + tokens)))
                self._seconds.setdefault(tokens, []).append(perf_counter() - begin)

    def costs(self) -> StepCosts:
        """The means of all samples; ends the session."""
        self._engine.close(self._session)
        return StepCosts({tokens: mean(seconds) for tokens, seconds in self._seconds.items()})

    def _extend(self, start: int, tokens: tuple[int, ...]) -> None:
        (reply,) = self._engine.extend([Extend(self._session, start, tokens)])
        assert isinstance(reply, Extended), f"{reply}: nobody else takes the meter's slot"


def sequential_ideal(costs: Sequence[StepCosts], prompt: int, written: Sequence[WrittenToken]) -> tuple[float, float]:
    """Seconds of the base's and of the experts' forward passes in the plain loop: T * c_base + sum of c_k(g).

    `costs` of the base first; g is what expert k has to take in since it last wrote, the prompt at first.
    """
    base = costs[0].of(prompt) + (len(written) - 1) * costs[0].of(1)
    experts, held = 0.0, [0] * len(costs)
    for index, token in enumerate(written, start=prompt):
        if token.author:
            experts += costs[token.author].of(index - held[token.author])
            held[token.author] = index
    return base, experts
