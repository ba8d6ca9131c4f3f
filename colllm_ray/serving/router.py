"""The router: base, head and the decoding loop of many answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.score_text import score_texts
from colllm_ray.decoding.team import AnswerRequest, Team, TeamSpec, base_stepper
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.stepper import StepTimes
from colllm_ray.engine.target_scores import GoldScores, Text
from colllm_ray.serving.expert_link import ExpertLink

TEXTS_AT_ONCE = 16  # that one member scores, so that answers find room beside them
FLUSH_S = 0.02  # tokens that are written within this time travel together: an item of a stream costs about a token


def router_client(router: DeploymentHandle) -> DeploymentHandle:
    """The router, called over Serve's gRPC rather than as a Ray actor, which costs both sides more than twice as much.

    Ray's token authentication guards both alike. `_by_reference` is Serve's experimental name for it.
    """
    return router.options(_by_reference=False)


@serve.deployment
class Router:
    """Holds the base; a token that the base writes crosses no process."""

    def __init__(self, spec: TeamSpec, *experts: DeploymentHandle) -> None:
        self._spec = spec
        self._experts = experts
        self._room_to_score = {
            name: asyncio.Semaphore(min(TEXTS_AT_ONCE, max(1, config.max_sessions // 4)))
            for name, config in spec.members.items()
        }
        self._base = base_stepper(spec)
        self._team = Team(spec, [self._base, *(ExpertLink(expert) for expert in experts)])

    async def times(self) -> StepTimes:
        """What this replica's engine did so far."""
        return self._base.times

    async def answer(self, request: AnswerRequest) -> tuple[WrittenToken, ...]:
        """A whole answer."""
        async with aclosing(self._team.answer(request)) as answer:
            return tuple([written async for written in answer])

    async def stream(self, request: AnswerRequest) -> AsyncIterator[tuple[WrittenToken, ...]]:
        """The tokens of an answer as they are written, a few at a time; to be called as a stream."""
        unsent: list[WrittenToken] = []
        writing = asyncio.create_task(self._write(request, unsent))
        try:
            finished = False
            while not finished:
                await asyncio.wait([writing], timeout=FLUSH_S)
                finished = writing.done()
                if chunk := tuple(unsent):
                    unsent.clear()
                    yield chunk
            await writing
        finally:  # the caller may have left: the answer's sessions end with it
            writing.cancel()

    async def origin(self, member: str) -> tuple[str, str]:
        """Revision and dtype of a member's weights. Raises ColllmError for one that is not there."""
        author = self._spec.author_of(member)
        config = self._spec.members[member]
        revision = self._experts[author - 1].revision.remote() if author else None
        return (await revision if revision else self._spec.trained.base_revision), config.dtype

    async def score(self, member: str, texts: Sequence[Text]) -> list[GoldScores | str]:
        """What a member thinks of given texts, or why it could not score one.

        Raises ColllmError for one that is too long or no text of the models'.
        """
        client = self._team.clients[self._spec.author_of(member)]
        for text in texts:
            self._spec.check_text(text.input_ids)
        return await score_texts(client, texts, self._room_to_score[member])

    async def _write(self, request: AnswerRequest, unsent: list[WrittenToken]) -> None:
        async with aclosing(self._team.answer(request)) as answer:
            async for written in answer:
                unsent.append(written)
