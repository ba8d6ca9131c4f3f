"""The link's round trip between two Serve replicas, without a model: one token there, one choice back."""

from __future__ import annotations

import asyncio
import secrets
from statistics import median
from time import perf_counter
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.engine.messages import Choice, Deliver, Extend, Extended
from colllm_ray.link.server import LinkServer
from colllm_ray.serving.application import running
from colllm_ray.serving.deployments import QUIET
from colllm_ray.serving.expert import Expert
from colllm_ray.serving.expert_link import ExpertLink

ROUND_TRIPS = 3000

_Expert: Any = Expert.func_or_class  # type: ignore[attr-defined]


class Echo(_Expert):
    """An expert that needs no time."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._link = LinkServer(_echo, lambda _session: None, self._secret)
        self._port = None


def _echo(request: Extend, deliver: Deliver) -> None:
    deliver(Extended(request.session, request.number, request.end, (Choice(request.tokens[-1], -0.5),)))


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


def link_rtt_ms() -> float:
    """The median, in ms; on the Ray of this session."""
    quiet = {"ray_actor_options": {"num_cpus": 0.1}, "logging_config": QUIET}
    echo = serve.deployment(Echo).options(**quiet).bind()
    with running(serve.deployment(Caller).options(**quiet).bind(echo), "link") as caller:
        caller.round_trips.remote(100).result()
        seconds: list[float] = caller.round_trips.remote(ROUND_TRIPS).result()
        return median(seconds) * 1e3
