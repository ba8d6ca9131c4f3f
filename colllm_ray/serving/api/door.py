"""What happens behind the routes: text in, tokens from the router, text out."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from typing import cast

from ray.serve.handle import DeploymentHandle
from transformers import PreTrainedTokenizerBase

from colllm_ray.config import ServingConfig
from colllm_ray.data.vocabulary import vocabulary
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.text import GoldScores, Text
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.admission import Admission
from colllm_ray.serving.api.answer_text import AnswerText, Piece
from colllm_ray.serving.api.answers import Reason
from colllm_ray.serving.api.attribution import Tracer
from colllm_ray.serving.api.bill import Bill
from colllm_ray.serving.api.budgets import Budgets
from colllm_ray.serving.api.encoder import Encoder
from colllm_ray.serving.api.errors import TOO_LONG, WRONG, ApiError, refused
from colllm_ray.serving.api.lasting import lasting, lasting_answer
from colllm_ray.serving.api.request import shown
from colllm_ray.serving.api.requests import AnswerFields, Extension
from colllm_ray.serving.api.router_calls import Deadline, answered, asked, streamed, unavailable
from colllm_ray.serving.api.streams import merged
from colllm_ray.serving.metrics import IngressMetrics
from colllm_ray.serving.started import NotStartedError, Started

HEALTH_S = 5.0
RETRY_AFTER_S = 5


@dataclass(frozen=True)
class Part:
    """Some of an answer; the last part says why it ended there, and which experts were lost."""

    pieces: list[Piece]
    finish_reason: Reason | None = None
    lost: tuple[int, ...] = ()


async def collected(
    parts: AsyncGenerator[tuple[int, Part], None], answers: int
) -> tuple[list[list[Piece]], dict[int, Part]]:
    """All pieces of each answer, and its last part."""
    pieces: list[list[Piece]] = [[] for _ in range(answers)]
    ends: dict[int, Part] = {}
    async with aclosing(parts):
        async for index, part in parts:
            pieces[index] += part.pieces
            ends[index] = part
    return pieces, ends


def entries(pieces: Sequence[Piece]) -> int:
    """How many tokens an answer tells of, where each comes with the likeliest in its place."""
    return sum(1 + len(piece.written.top) for piece in pieces)


class Door:
    """Answers what has been checked, through a router."""

    def __init__(
        self,
        spec: TeamSpec,
        tokenizer: PreTrainedTokenizerBase,
        router: DeploymentHandle,
        config: ServingConfig,
        metrics: IngressMetrics,
        started: Started,
    ) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary(tokenizer)
        self.created = int(time.time())
        self._budgets = Budgets(spec.trained.calibration)
        self.encoder = Encoder(tokenizer, spec.context)
        self.admission = Admission(config.max_answers, config.max_waiting, metrics.saw_waiting)
        self._router = router
        self._started = started
        self._timeout_s = config.timeout_s

    @cached_property
    def models(self) -> dict[str, str | None]:
        """The member that each `model` stands for, None for the collaboration itself, which is the first."""
        name = self.spec.name
        return {name: None, **{f"{name}/{member}": member for member in self.spec.members}}

    def member(self, model: str | None) -> str | None:
        """The member that a request's `model` stands for. Raises ApiError, with status 404."""
        if model is not None and model not in self.models:
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"there is no model {shown(model)!r} here; there are: {', '.join(self.models)}",
                param="model",
                code="model_not_found",
            )
        return None if model is None else self.models[model]

    def answer_request(
        self, fields: AnswerFields, prompt: Sequence[int], length: int | None, top: int, param: str
    ) -> AnswerRequest:
        """What the router is asked; `param` is the field that holds the prompt.

        Raises ApiError for what cannot be met: all of it before anything is decoded.
        """
        ours, member = fields.colllm, self.member(fields.model)
        for name in ("threshold", "budget", "experts", "policy"):
            if member is not None and getattr(ours, name) != Extension.model_fields[name].default:
                raise refused(f"colllm.{name}: {fields.model} writes alone; leave it out", f"colllm.{name}")
        request = AnswerRequest(
            prompt=tuple(prompt),
            max_tokens=length or None,
            member=member,
            eta=self._eta(ours),
            run_ahead=ours.run_ahead,
            experts=None if ours.experts is None else tuple(ours.experts),
            policy=ours.policy,
            wait_s=self.spec.serving.wait_s if ours.wait_s is None else ours.wait_s,
            ignore_eos=fields.ignore_eos,
            top=top,
        )
        try:
            self.spec.masked(request.experts)
        except ColllmError as error:
            raise refused(str(error), "colllm.experts") from error
        try:
            if length != 0:  # of 0, nothing is written, and the prompt may fill the context
                self.spec.tokens_left(request)
            self.spec.check_text(request.prompt)
        except ColllmError as error:
            too_long = len(request.prompt) + (length or 0) > self.spec.context
            raise refused(str(error), param, TOO_LONG if too_long else WRONG) from error
        return request

    def tracer(self, fields: AnswerFields, request: AnswerRequest) -> Tracer:
        """Traces one answer to the request."""
        return Tracer(list(self.spec.members), self.spec.eta(request), fields.colllm.doubt, fields.colllm.trace)

    def bill(self, prompt_tokens: int, since: float) -> Bill:
        return Bill(list(self.spec.members), prompt_tokens, since)

    def write_all(
        self, requests: Sequence[AnswerRequest], fields: AnswerFields, bill: Bill, deadline: Deadline
    ) -> AsyncGenerator[tuple[int, Part], None]:
        """The `n` answers to each of the requests, numbered in this order. Raises ColllmError."""
        answers = [replace(request, sampling=sampling) for request in requests for sampling in fields.samplings]
        budget = fields.colllm.budget
        return merged(
            [
                self._write(one, fields.stops, bill, deadline, i)
                if budget is None
                else self._keeping_to(budget, self._write(one, fields.stops, bill, deadline, i))
                for i, one in enumerate(answers)
            ]
        )

    async def _keeping_to(self, budget: float, answer: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
        """The answer, whose deferrals count for those that begin later, also where it is broken off."""
        tokens = deferrals = 0
        self._budgets.begin(budget)
        try:
            async with aclosing(answer) as parts:
                async for part in parts:
                    tokens += len(part.pieces)
                    deferrals += sum(piece.written.author > 0 for piece in part.pieces)
                    yield part
        finally:
            self._budgets.end(budget, tokens, deferrals)

    async def _write(
        self, request: AnswerRequest, stops: Sequence[str], bill: Bill, deadline: Deadline, answer: int
    ) -> AsyncGenerator[Part, None]:
        ends = self.spec.ends(request)
        text = AnswerText(self.tokenizer, request.prompt, stops, ends)
        last: WrittenToken | None = None
        lost: tuple[int, ...] = ()
        async with (
            self.admission.place(deadline),
            aclosing(lasting_answer(self._router, self.spec, request, deadline)) as chunks,
        ):
            async for chunk in chunks:
                before = text.tokens
                pieces = text.add(chunk.tokens)
                bill.saw(answer, chunk, text.tokens - before)
                lost = chunk.lost
                if chunk.tokens:
                    last = chunk.tokens[-1]
                if text.stopped:
                    yield Part(pieces, "stop", lost)
                    return
                if pieces:
                    yield Part(pieces)
        rest = text.rest()
        ended = last is not None and last.token in ends
        yield Part(rest, "stop" if ended or text.stopped else "length", lost)

    async def given(self, request: AnswerRequest, deadline: Deadline) -> list[WrittenToken]:
        """The prompt's tokens but for the first, as if they had been written. Raises ColllmError."""

        async def told() -> list[WrittenToken]:
            stream = streamed(asked(self._router.options(stream=True).given, request), deadline)
            async with aclosing(cast(AsyncGenerator[tuple[WrittenToken, ...], None], stream)) as parts:
                return [token async for part in parts for token in part]

        async with self.admission.place(deadline):
            return await lasting(told)

    async def score(self, member: str, texts: Sequence[Text]) -> list[GoldScores | str]:
        """What a member thinks of given texts, or why it could not score one. Raises ColllmError."""
        deadline = self.deadline()
        told = await lasting(lambda: answered(asked(self._router.score, member, texts), deadline))
        return cast(list[GoldScores | str], told)

    async def origin(self, member: str) -> tuple[str, str]:
        """Revision and dtype of a member's weights. Raises ApiError."""
        deadline = self.deadline()
        try:
            told = await lasting(lambda: answered(asked(self._router.origin, member), deadline))
            return cast(tuple[str, str], told)
        except ApiError:
            raise
        except ColllmError as error:  # a replica that runs with other weights than lie in their place
            raise unavailable(str(error), "model_failed") from error

    async def check_health(self) -> None:
        """Raises ApiError, with status 503, where no router answers soon, or an expert has not been able to start."""
        try:
            await self._started.check()
        except NotStartedError as error:
            raise unavailable(str(error), "starting", {"Retry-After": str(RETRY_AFTER_S)}) from error
        try:
            await answered(asked(self._router.sessions), Deadline(HEALTH_S))
        except ApiError as error:
            raise unavailable(f"no router has answered within {HEALTH_S:g} s", "router_lost") from error

    def deadline(self) -> Deadline:
        """Of a request that begins now."""
        return Deadline(self._timeout_s)

    def _eta(self, ours: Extension) -> float | None:
        if ours.budget is None:
            return ours.threshold
        try:
            return self._budgets.eta(ours.budget)
        except ColllmError as error:
            raise refused(str(error), "colllm.budget") from error
