"""What answers took, beside what their models' forward passes alone would have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from benchmarks.costs import CostMeter, StepCosts, sequential_ideal
from benchmarks.report import Row, latencies
from benchmarks.scripted import Local, Pause
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken


@dataclass(frozen=True)
class Answer:
    """One answer: its tokens, the seconds of each and of the whole, and each model's in forward passes.

    Of the whole without pauses; over Serve with the way to the router and back.
    """

    written: Sequence[WrittenToken]
    each: Sequence[float]
    wall: float
    step_seconds: Sequence[float]


@dataclass
class Measured:
    """Answers of one setting: what they took, and what of it was whose."""

    tokens: int = 0
    wall: float = 0.0
    ideal: float = 0.0
    base: float = 0.0  # in forward passes
    expert: float = 0.0
    deferrals: int = 0
    each: list[float] = field(default_factory=list)  # seconds of each token but the first, which has the prompt

    @classmethod
    def of(cls, answers: Sequence[Answer], requests: Sequence[AnswerRequest], costs: Sequence[StepCosts]) -> Measured:
        """`costs` of each model, the base first."""
        measured = cls()
        for answer, request in zip(answers, requests, strict=True):
            measured.tokens += len(answer.written)
            measured.wall += answer.wall
            measured.ideal += sum(sequential_ideal(costs, len(request.prompt), answer.written))
            measured.base += answer.step_seconds[0]
            measured.expert += sum(answer.step_seconds[1:])
            measured.deferrals += sum(token.author > 0 for token in answer.written)
            measured.each += answer.each[1:]
        return measured

    def __add__(self, other: Measured) -> Measured:
        return Measured(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def efficiency(self) -> float:
        return self.ideal / self.wall

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall

    def row(self, models: str, frequency: float, how: str, link_ms: float) -> Row:
        """A line of the table; times in ms for each token."""
        a_token = 1e3 / self.tokens
        link = self.deferrals * link_ms * 1e-3
        return {
            "models": models,
            "f": frequency,
            "how": how,
            "tokens_per_s": round(self.tokens_per_s, 1),
            **latencies(self.each),
            "of_ideal": round(self.efficiency, 3),
            "base_ms": round(self.base * a_token, 3),
            "expert_ms": round(self.expert * a_token, 3),
            "link_ms": round(link * a_token, 3),
            "rest_ms": round((self.wall - self.base - self.expert - link) * a_token, 3),
        }


def in_process(local: Local, requests: Sequence[AnswerRequest], middle: int) -> Measured:
    """The answers of a team in this process, one after the other; `middle` is a text's mean length in tokens."""
    meters = [CostMeter(engine, middle) for engine in local.engines]

    async def sample() -> None:
        for meter in meters:
            meter.sample()

    answers = [_timed(local, request, sample) for request in requests]
    return Measured.of(answers, requests, [meter.costs() for meter in meters])


def _timed(local: Local, request: AnswerRequest, pause: Pause) -> Answer:
    before = local.step_seconds()
    written, each = asyncio.run(local.timed(request, pause))
    steps = [after - then for after, then in zip(local.step_seconds(), before, strict=True)]
    return Answer(written, each, sum(each), steps)
