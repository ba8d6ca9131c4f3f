"""Several answers at once, and answers as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from colllm_ray.serving.api.errors import as_api_error

T = TypeVar("T")
Chunk = TypeVar("Chunk", bound=BaseModel)


async def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """What all of them give, with the number of the one that gave it, as it comes; the first error ends all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for alone in only:
                yield 0, alone
        return
    given: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()

    async def forward(number: int, stream: AsyncGenerator[T, None]) -> None:
        async with aclosing(stream) as items:
            async for item in items:
                given.put_nowait((number, item))

    async def forward_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number, stream in enumerate(streams):
                    group.create_task(forward(number, stream))
        finally:
            given.put_nowait(None)

    forwarding = asyncio.create_task(forward_all())
    try:
        while (item := await given.get()) is not None:
            yield item
        await forwarding
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        forwarding.cancel()
        await asyncio.wait([forwarding])


async def all_of(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them return; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class EventStream(StreamingResponse):
    """Chunks as server-sent events, then `[DONE]`; an error comes as an event, for the status is sent by then."""

    media_type = "text/event-stream"

    def __init__(self, first: BaseModel, others: AsyncGenerator[BaseModel, None]) -> None:
        # A proxy that kept events back until there are many would undo the streaming.
        super().__init__(_events(first, others), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._others = others

    @classmethod
    async def begun(cls, chunks: AsyncGenerator[Chunk, None]) -> EventStream:
        """The stream, once its first chunk is there: what fails before that still has a status of its own."""
        return cls(await anext(chunks), cast(AsyncGenerator[BaseModel, None], chunks))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._others):  # also where the client is gone before the first event
            await super().__call__(scope, receive, send)


async def _events(first: BaseModel, others: AsyncGenerator[BaseModel, None]) -> AsyncIterator[str]:
    yield _event(first.model_dump_json(exclude_unset=True))
    try:
        async for chunk in others:
            yield _event(chunk.model_dump_json(exclude_unset=True))
    except Exception as error:  # noqa: BLE001 (whatever it is, the client has to be told)
        yield _event(as_api_error(error).body.model_dump_json())
    else:
        yield _event("[DONE]")


def _event(data: str) -> str:
    return f"data: {data}\n\n"
