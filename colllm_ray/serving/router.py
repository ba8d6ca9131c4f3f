"""The router: base, head and the decoding loop of many answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from time import perf_counter

from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.judged import Judged
from colllm_ray.decoding.known import Known
from colllm_ray.decoding.model_client import News
from colllm_ray.decoding.score_text import score_texts
from colllm_ray.decoding.team import Team, base_stepper
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import Answer, WrittenToken
from colllm_ray.engine.stepping import StepTimes
from colllm_ray.engine.text import GoldScores, Text
from colllm_ray.serving.expert_link import ExpertLink
from colllm_ray.serving.health import check_engine
from colllm_ray.serving.metrics import BASE, EngineMetrics, Outcome, RouterMetrics
from colllm_ray.serving.router_client import SIGN_S, Chunk

TEXTS_AT_ONCE = 16  # that one member scores, so that answers find room beside them
FLUSH_S = 0.02  # tokens that are written within this time travel together: an item of a stream costs about a token
GIVEN_AT_ONCE = 256  # tokens of a given text that are told together: Serve carries no messages above 4 MB


class RouterReplica:
    """Holds the base; a token that the base writes crosses no process."""

    def __init__(self, spec: TeamSpec, *experts: DeploymentHandle) -> None:  # and guests behind them
        self._spec = spec
        self._experts = experts
        self._room_to_score = {
            name: asyncio.Semaphore(min(TEXTS_AT_ONCE, max(1, config.max_sessions // 4)))
            for name, config in spec.models.items()
        }
        self._base = base_stepper(spec)
        silences = (config.silence_s for config in (*spec.trained.collaboration.experts, *spec.guests))
        self._team = Team(spec, [self._base, *map(ExpertLink, experts, silences)])
        self._metrics = RouterMetrics(spec.name, list(spec.models))
        self._base_metrics = EngineMetrics(spec.name, BASE)

    async def check_health(self) -> None:
        """Lets Serve start this replica again where the base's engine hangs, or fails at whatever it is asked."""
        check_engine(self._base)

    async def times(self) -> StepTimes:
        """What this replica's engine did so far."""
        return self._base.times

    async def sessions(self) -> int:
        """Answers whose text the base holds."""
        return self._base.engine.session_count

    async def answer(self, request: AnswerRequest) -> Answer:
        """A whole answer."""
        tokens: list[WrittenToken] = []
        account, begin = Account(), perf_counter()
        await self._write(request, tokens.append, account)
        return Answer(tuple(tokens), account.passes(len(self._team.clients)), perf_counter() - begin)

    async def sweep(
        self, request: AnswerRequest, etas: Sequence[float], known: Known
    ) -> tuple[list[list[WrittenToken]], Known]:
        """The answer at each of these thresholds, and what is known now; as `Team.sweep` has it."""
        self._base_metrics.follow(self._base)
        answers = await self._team.sweep(request, etas, known)
        return answers, known

    async def judged(self, text: Text) -> Judged:
        """What all models and the head say of a text's targets, as `Team.judged` has it."""
        self._base_metrics.follow(self._base)
        async with self._room_to_score[BASE]:
            return await self._team.judged(text)

    async def stream(self, request: AnswerRequest) -> AsyncIterator[Chunk]:
        """The tokens of an answer as they are written, the first at once; to be called as a stream.

        Something comes every `SIGN_S` at least.
        """
        account = Account()
        unsent: list[WrittenToken] = []
        news = News()

        def keep(token: WrittenToken) -> None:
            unsent.append(token)
            news.tell()

        def chunk() -> Chunk:
            tokens = tuple(unsent)
            unsent.clear()
            return Chunk(tokens, account.calls(len(self._team.clients)), tuple(account.lost))

        writing = asyncio.create_task(self._write(request, keep, account))
        writing.add_done_callback(lambda _: news.tell())
        try:
            yield chunk()
            finished = False
            while not finished:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SIGN_S):
                        await news.wait()
                finished = writing.done()
                yield chunk()
                if not finished:
                    await asyncio.wait([writing], timeout=FLUSH_S)
            await writing
        finally:  # the caller may have left: the answer's sessions end with it
            writing.cancel()

    async def given(self, request: AnswerRequest) -> AsyncIterator[tuple[WrittenToken, ...]]:
        """The tokens of the prompt but for the first, as if they had been written; to be called as a stream."""
        self._base_metrics.follow(self._base)
        async with self._room_to_score[BASE]:
            tokens = await self._team.given(request)
        for begin in range(0, len(tokens), GIVEN_AT_ONCE):
            yield tuple(tokens[begin : begin + GIVEN_AT_ONCE])

    async def origin(self, member: str) -> tuple[str, str]:
        """Revision and dtype of a member's weights. Raises ColllmError for one that is not there."""
        author = self._spec.author_of(member)
        config = self._spec.models[member]
        revision = self._experts[author - 1].revision.remote() if author else None
        return (await revision if revision else self._spec.trained.base_revision), config.dtype

    async def score(self, member: str, texts: Sequence[Text]) -> list[GoldScores | str]:
        """What a member thinks of given texts, or why it could not score one.

        Raises ColllmError for one that is too long or no text of the models'.
        """
        self._base_metrics.follow(self._base)
        client = self._team.clients[self._spec.author_of(member)]
        for text in texts:
            self._spec.check_text(text.input_ids)
        return await score_texts(client, texts, self._room_to_score[member])

    async def _write(self, request: AnswerRequest, written: Callable[[WrittenToken], None], account: Account) -> None:
        self._base_metrics.follow(self._base)
        tokens = [0] * len(self._team.clients)
        outcome: Outcome = "failed"
        try:
            async with aclosing(self._team.answer(request, account)) as answer:
                async for token in answer:
                    tokens[token.author] += 1
                    written(token)
            outcome = "finished"
        except asyncio.CancelledError:
            outcome = "left"
            raise
        finally:
            self._metrics.saw_answer(outcome, tokens, account)


Router = serve.deployment(name="Router")(RouterReplica)
