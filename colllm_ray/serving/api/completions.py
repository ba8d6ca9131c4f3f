"""`/v1/completions`: texts go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import uuid4

from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import Piece, echo_of
from colllm_ray.serving.api.answers import CompletionAnswer, CompletionChoice, CompletionLogprobs
from colllm_ray.serving.api.aside import aside
from colllm_ray.serving.api.bill import Bill
from colllm_ray.serving.api.door import Door, Part, collected, entries
from colllm_ray.serving.api.logprobs import completion_logprobs
from colllm_ray.serving.api.requests import CompletionRequest
from colllm_ray.serving.api.streams import all_of


class Completions:
    """One request for completions, of one or more prompts, and the answers to it.

    Answer number p * n + i is the i-th to prompt p.
    """

    def __init__(self, door: Door, request: CompletionRequest, asked: list[AnswerRequest], since: float) -> None:
        self._door = door
        self._fields = request
        self._deadline = door.deadline()
        self._requests = asked
        self._tracers = [door.tracer(request, one) for one in self._requests for _ in range(request.answers)]
        self.bill: Bill = door.bill(sum(len(one.prompt) for one in asked), since)
        self._id = f"cmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._model = request.model or door.spec.name
        self._lengths = [0] * len(self._tracers)  # characters that were told of each answer

    @classmethod
    async def asked(cls, door: Door, request: CompletionRequest, since: float) -> Completions:
        """The request came at `since`, on the clock of perf_counter. Raises ColllmError for what cannot be answered."""
        requests = []
        for prompt in request.prompts:
            ids = await door.encoder.prompt(prompt, request.add_special_tokens) if isinstance(prompt, str) else prompt
            requests.append(door.answer_request(request, ids, request.length, request.logprobs or 0, "prompt"))
            await asyncio.sleep(0)
        return cls(door, request, requests, since)

    async def parts(self) -> AsyncGenerator[tuple[int, Part], None]:
        """All answers as they are written. Raises ColllmError."""
        if self._fields.length:
            written = self._door.write_all(self._requests, self._fields, self.bill, self._deadline)
            async with aclosing(written) as parts:
                async for part in parts:
                    yield part
        else:
            for index in range(len(self._tracers)):
                yield index, Part([], "length")

    async def echoes(self) -> list[list[Piece]]:
        """The prompts, where they come before their answers. Raises ColllmError."""
        if not self._fields.echo:
            return [[] for _ in self._requests]
        if self._fields.logprobs is None:
            given = [[WrittenToken(token, 0, None, 0.0) for token in one.prompt[1:]] for one in self._requests]
        else:
            given = await all_of([self._door.given(one, self._deadline) for one in self._requests])
        return [
            await aside(len(one.prompt), self._echo, one, tokens)
            for one, tokens in zip(self._requests, given, strict=True)
        ]

    async def whole(
        self, echoes: Sequence[list[Piece]], parts: AsyncGenerator[tuple[int, Part], None]
    ) -> CompletionAnswer:
        """The answers, once all of them are there."""
        pieces, ends = await collected(parts, len(self._tracers))
        choices = []
        for index, said in enumerate(pieces):
            echo = echoes[index // self._fields.answers]
            size = entries([*echo, *said])
            choices.append(await aside(size, self._choice, index, echo, said, ends[index]))
            await asyncio.sleep(0)
        return CompletionAnswer(
            id=self._id, created=self._created, model=self._model, choices=choices, usage=self.bill.usage
        )

    async def chunks(
        self, echoes: Sequence[list[Piece]], parts: AsyncGenerator[tuple[int, Part], None]
    ) -> AsyncGenerator[CompletionAnswer, None]:
        """The answers in chunks, an echo in the first of its answer."""
        begun: set[int] = set()
        async with aclosing(parts):
            async for index, part in parts:
                echo = [] if index in begun else echoes[index // self._fields.answers]
                begun.add(index)
                choice = await aside(entries(echo), self._choice, index, echo, part.pieces, part)
                yield self._answer([choice])
        if self._fields.wants_usage:
            yield self._answer([]).model_copy(update={"usage": self.bill.usage})

    def _answer(self, choices: list[CompletionChoice]) -> CompletionAnswer:
        return CompletionAnswer(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._model,
            choices=choices,
            **({"usage": self.bill.usage} if self._fields.wants_usage_so_far else {}),
        )

    def _echo(self, request: AnswerRequest, given: Sequence[WrittenToken]) -> list[Piece]:
        """The prompt's tokens with their texts; nothing can be told of the first."""
        first = WrittenToken(request.prompt[0], 0, None, 0.0)
        return echo_of([first, *given], self._door.tokenizer, is_whole=not self._fields.length)

    def _choice(self, index: int, echo: list[Piece], said: list[Piece], part: Part) -> CompletionChoice:
        tracer = self._tracers[index]
        told = tracer.told(said)
        text = "".join(piece.text for piece in [*echo, *said])
        choice = CompletionChoice(
            index=index,
            text=text,
            finish_reason=part.finish_reason,
            logprobs=self._logprobs(index, echo, said),
            colllm=told if part.finish_reason is None else tracer.end(told, part.lost),
        )
        self._lengths[index] += len(text)
        return choice

    def _logprobs(self, index: int, echo: list[Piece], said: list[Piece]) -> CompletionLogprobs | None:
        if self._fields.logprobs is None:
            return None
        tells_top = self._fields.logprobs > 0
        offset = self._lengths[index]
        return completion_logprobs([*echo, *said], self._door.vocabulary, offset, tells_top, begins=bool(echo))
