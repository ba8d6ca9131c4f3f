"""What the log says of clients that leave, however Serve puts it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from ray.exceptions import ActorDiedError, TaskCancelledError
from starlette.types import Message

from colllm_ray.config import ServingConfig
from colllm_ray.serving.api import errors, guard
from colllm_ray.serving.metrics import IngressMetrics


def endless_app(closed: list[bool]) -> FastAPI:
    app = FastAPI()

    async def forever() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "data: {}\n\n"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    @app.get("/endless")
    async def endless() -> Response:
        return StreamingResponse(forever(), media_type="text/event-stream")

    errors.install(app)
    guard.add(app, ServingConfig(), frozenset(), IngressMetrics("tests"))
    return app


def says_disconnect() -> Message:
    return {"type": "http.disconnect"}


def is_cancelled() -> Message:
    raise TaskCancelledError


def is_lost() -> Message:
    raise ActorDiedError


@pytest.mark.parametrize("leave", [says_disconnect, is_cancelled, is_lost])
def test_a_client_that_leaves_is_no_error(leave: Callable[[], Message], caplog: pytest.LogCaptureFixture) -> None:
    """Serve cancels the call for what the client sends along with the request, or that call finds nobody."""
    closed: list[bool] = []

    async def run() -> None:
        events = asyncio.Event()

        async def receive() -> Message:
            await events.wait()  # the body is of no interest to GET
            return leave()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                events.set()

        scope = {"type": "http", "method": "GET", "path": "/endless", "headers": [], "query_string": b""}
        await endless_app(closed)(scope, receive, send)

    with caplog.at_level(logging.INFO, logger="ray.serve"):
        asyncio.run(asyncio.wait_for(run(), 30))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), record.__dict__["status"]) == ("INFO", "request", guard.LEFT)
    assert closed == [True]
