"""However large a request is, and whatever it holds, the event loop is not kept for long, and the refusal is right."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import thread_time

import pytest
from fastapi import Request as HttpRequest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json
from starlette.types import Message

from benchmarks.ingress_stall import BODIES
from colllm_ray.serving.api import bodies
from colllm_ray.serving.api.bodies import Count, read
from colllm_ray.serving.api.bounds import bounded
from colllm_ray.serving.api.errors import ApiError
from colllm_ray.serving.api.request import Request
from colllm_ray.serving.api.requests import ChatRequest, CompletionRequest, DetokenizeRequest, ScoreRequest

CONTEXT, ANSWERS = 4096, 512
LONGEST_S = 0.05  # of the processor's time, in which nothing else of the loop runs
MODELS: dict[str, type[Request]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/tokenize": CompletionRequest,
    "/detokenize": DetokenizeRequest,
    "/v1/colllm/scores": ScoreRequest,
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\,:{[é', max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\{', max_size=3), inner, max_size=4),
    max_leaves=30,
)


def request(content: bytes) -> HttpRequest:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    return HttpRequest({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)


async def longest_step(content: bytes, model: type[Request]) -> tuple[float, ApiError | None]:
    """The longest time for which reading the body keeps the loop, and how it is refused."""
    longest, reading = 0.0, True

    async def watch() -> None:
        nonlocal longest
        last = thread_time()
        while reading:
            await asyncio.sleep(0)
            longest, last = max(longest, thread_time() - last), thread_time()

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    refusal = None
    try:
        await read(request(content), bounded(model, CONTEXT, ANSWERS), CONTEXT)
    except ApiError as error:
        refusal = error
    await asyncio.sleep(0)
    reading = False
    await watching
    return longest, refusal


@pytest.mark.parametrize("kind", list(BODIES))
def test_no_body_keeps_the_event_loop(kind: str) -> None:
    path, content, param = BODIES[kind]()
    assert len(content) > 3 * 2**20
    longest, refusal = asyncio.run(longest_step(content, MODELS[path]))
    assert longest < LONGEST_S
    assert (None if refusal is None else refusal.body.error.param) == param
    if refusal is not None:
        assert refusal.status == HTTPStatus.BAD_REQUEST
        assert len(refusal.body.model_dump_json()) < 3000


@given(value=VALUES, chunk=st.integers(1, 9))
def test_what_is_counted_in_chunks_is_what_there_is(value: object, chunk: int) -> None:
    def entries(one: object) -> tuple[int, int]:
        """Objects and lists; names."""
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        below = [entries(each) for each in inner]
        names = len(one) if isinstance(one, dict) else 0
        return isinstance(one, (dict, list)) + sum(o for o, _ in below), names + sum(n for _, n in below)

    content, count, begin = to_json(value), Count(), 0
    whole, bodies.CHUNK = bodies.CHUNK, chunk + 1
    try:
        while begin < len(content):
            end = bodies._chunk_end(content, begin)
            count.add(content[begin:end])
            begin = end
    finally:
        bodies.CHUNK = whole
    assert (count.objects, count.names) == entries(value)
    assert not count.in_text
