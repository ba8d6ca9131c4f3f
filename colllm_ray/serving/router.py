"""The router: base, head and the decoding loop of many answers at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.loop import WrittenToken
from colllm_ray.decoding.team import AnswerRequest, Team, TeamSpec, base_stepper
from colllm_ray.serving.link import ExpertLink


@serve.deployment
class Router:
    """Holds the base; a token that the base writes crosses no process."""

    def __init__(self, spec: TeamSpec, *experts: DeploymentHandle) -> None:
        self._team = Team(spec, [base_stepper(spec), *(ExpertLink(expert) for expert in experts)])

    async def answer(self, request: AnswerRequest) -> AsyncIterator[WrittenToken]:
        """The tokens of an answer as they are written; to be called as a stream."""
        async with aclosing(self._team.answer(request)) as answer:  # so that its sessions end when the caller leaves
            async for written in answer:
                yield written
