"""`/v1/chat/completions`: a conversation goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import uuid4

from colllm_ray.serving.api.answer_text import Piece
from colllm_ray.serving.api.answers import (
    AssistantMessage,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatLogprobs,
    ChunkChoice,
    Delta,
)
from colllm_ray.serving.api.aside import aside
from colllm_ray.serving.api.bill import Bill
from colllm_ray.serving.api.door import Door, Part, collected, entries
from colllm_ray.serving.api.logprobs import chat_logprobs
from colllm_ray.serving.api.requests import ChatRequest


class Chat:
    """One chat request and the answers to it."""

    def __init__(self, door: Door, request: ChatRequest, prompt: list[int], since: float) -> None:
        self._door = door
        self._fields = request
        self._deadline = door.deadline()
        top = request.top_logprobs or 0
        self._request = door.answer_request(request, prompt, request.length, top, "messages")
        self._tracers = [door.tracer(request, self._request) for _ in range(request.answers)]
        self.bill: Bill = door.bill(len(prompt), since)
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._model = request.model or door.spec.name

    @classmethod
    async def asked(cls, door: Door, request: ChatRequest, since: float) -> Chat:
        """The request came at `since`, on the clock of perf_counter. Raises ColllmError for what cannot be answered."""
        return cls(door, request, await door.encoder.chat(request.messages), since)

    def parts(self) -> AsyncGenerator[tuple[int, Part], None]:
        """All answers as they are written. Raises ColllmError."""
        return self._door.write_all([self._request], self._fields, self.bill, self._deadline)

    async def whole(self, parts: AsyncGenerator[tuple[int, Part], None]) -> ChatAnswer:
        """The answers, once all of them are there."""
        pieces, ends = await collected(parts, len(self._tracers))
        choices = []
        for index, said in enumerate(pieces):
            choices.append(await aside(entries(said), self._choice, index, said, ends[index]))
            await asyncio.sleep(0)
        return ChatAnswer(id=self._id, created=self._created, model=self._model, choices=choices, usage=self.bill.usage)

    def _choice(self, index: int, said: list[Piece], end: Part) -> ChatChoice:
        assert end.finish_reason is not None, "the last part has one"
        tracer = self._tracers[index]
        return ChatChoice(
            index=index,
            message=AssistantMessage(content="".join(piece.text for piece in said)),
            finish_reason=end.finish_reason,
            logprobs=self._logprobs(said),
            colllm=tracer.end(tracer.told(said), end.lost),
        )

    async def chunks(self, parts: AsyncGenerator[tuple[int, Part], None]) -> AsyncGenerator[ChatChunk, None]:
        """The answers in chunks: of each the role first, then what is written, then why it ended."""
        begun: set[int] = set()
        async with aclosing(parts):
            async for index, part in parts:
                if index not in begun:
                    begun.add(index)
                    role = Delta(role="assistant", content="")
                    yield self._chunk(ChunkChoice(index=index, delta=role, finish_reason=None))
                if part.pieces:
                    yield self._chunk(
                        ChunkChoice(
                            index=index,
                            delta=Delta(content="".join(piece.text for piece in part.pieces)),
                            logprobs=self._logprobs(part.pieces),
                            finish_reason=None,
                            colllm=self._tracers[index].told(part.pieces),
                        )
                    )
                if part.finish_reason is not None:
                    tracer = self._tracers[index]
                    end = tracer.end(tracer.told([]), part.lost)
                    yield self._chunk(
                        ChunkChoice(index=index, delta=Delta(), finish_reason=part.finish_reason, colllm=end)
                    )
        if self._fields.wants_usage:
            yield self._chunk().model_copy(update={"usage": self.bill.usage})

    def _chunk(self, *choices: ChunkChoice) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=list(choices),
            **({"usage": self.bill.usage} if self._fields.wants_usage_so_far else {}),
        )

    def _logprobs(self, pieces: list[Piece]) -> ChatLogprobs | None:
        return chat_logprobs(pieces, self._door.vocabulary) if self._fields.logprobs else None
