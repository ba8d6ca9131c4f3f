"""What a forward pass costs, and with it the sequential ideal: what the plain loop would take without anything else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from time import perf_counter
from uuid import uuid4

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.messages import Extend

COUNTS = (*range(1, 17), 32, 64)  # tokens at once; up to 16 each count costs what its remainders do, then it is a line
SECONDS, REPEATS = 0.05, 3  # of measuring each count, at least
SECONDS_OF_ONE = 0.3  # of measuring a single token, as most steps take in


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

    @classmethod
    def mean(cls, samples: Sequence[StepCosts]) -> StepCosts:
        return cls({tokens: mean(sample.by_tokens[tokens] for sample in samples) for tokens in samples[0].by_tokens})


class CostSamples:
    """What forward passes cost each model, sampled time and again between the answers: a machine's speed drifts."""

    def __init__(self, measure_all: Callable[[], list[StepCosts]]) -> None:
        self._measure_all = measure_all
        self._samples: list[list[StepCosts]] = []

    def take(self) -> None:
        self._samples.append(self._measure_all())

    def mean(self) -> list[StepCosts]:
        """Of each model."""
        return [StepCosts.mean(of_model) for of_model in zip(*self._samples, strict=True)]


def measure(engine: Engine, at: int) -> StepCosts:
    """What it costs to take tokens in behind `at` others, of one session.

    The mean, not the median: what else goes on on the machine slows answers down as it does this.
    """
    session = uuid4().hex
    engine.extend([Extend(session, 0, (5,) * at)])
    costs = {}
    for tokens in COUNTS:
        if at + tokens > engine.context:
            break
        request = Extend(session, at, tuple(range(6, 6 + tokens)))
        unlike = Extend(session, at, tuple(range(7, 7 + tokens)))  # nothing is known, so that all is computed
        engine.extend([unlike])  # the first time may have to set things up
        seconds: list[float] = []
        while sum(seconds) < (SECONDS_OF_ONE if tokens == 1 else SECONDS) or len(seconds) < REPEATS:
            request, unlike = unlike, request
            begin = perf_counter()
            engine.extend([request])
            seconds.append(perf_counter() - begin)
        costs[tokens] = mean(seconds)
    engine.close(session)
    return StepCosts(costs)


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
