"""The link's round trip between two Serve replicas, without a model: one token there, one choice back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.engine.messages import Choice, Deliver, Extend, Extended
from colllm_ray.engine.stepping import StepTimes
from colllm_ray.serving.application import running
from colllm_ray.serving.deployments import QUIET
from colllm_ray.serving.expert import Replica
from colllm_ray.serving.expert_link import ExpertLink
from colllm_ray.serving.metrics import EngineMetrics

NAME = "link"


@dataclass(frozen=True)
class _NoTexts:
    session_count: int = 0
    evictions: int = 0


@dataclass(frozen=True)
class EchoStepper:
    """Answers each question with its last token, at once."""

    engine: _NoTexts = _NoTexts()
    times: StepTimes = field(default_factory=StepTimes)
    failed_sessions: frozenset[str] = frozenset()

    def post(self, request: Extend, deliver: Deliver) -> None:
        deliver(Extended(request.session, request.number, request.end, (Choice(request.tokens[-1], -0.5),)))

    def close_session(self, session: str) -> None:
        """Nothing is kept of it."""


class Echo(Replica):
    """An expert that needs no time."""

    def __init__(self) -> None:
        super().__init__(EchoStepper(), EngineMetrics(NAME, "echo"))


class Caller:
    """What a router does at a deferral, and nothing else."""

    def __init__(self, echo: DeploymentHandle) -> None:
        self._link = ExpertLink(echo)

    async def round_trips(self, count: int) -> list[float]:
        """Seconds of each."""
        seconds = []
        for number in range(1, count + 1):
            answered = asyncio.get_running_loop().create_future()
            begin = perf_counter()
            self._link.post(Extend("caller", number, (number,), number), answered.set_result)
            await answered
            seconds.append(perf_counter() - begin)
        self._link.close_session("caller")
        return seconds


def link_rtts_ms(runs: int, round_trips: int) -> list[float]:
    """The median of each run, in ms; on the Ray of this session."""
    quiet = {"ray_actor_options": {"num_cpus": 0.1}, "logging_config": QUIET}
    echo = serve.deployment(Echo).options(**quiet).bind()
    with running(serve.deployment(Caller).options(**quiet).bind(echo), NAME) as caller:
        caller.round_trips.remote(100).result()
        return [median(caller.round_trips.remote(round_trips).result()) * 1e3 for _ in range(runs)]
