"""Whatever a request of 4 MB holds, the event loop is not kept for long, and the refusal is right."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from time import thread_time

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from benchmarks.ingress_stall import BODIES
from colllm_ray.serving.api.bodies import Count, chunks

LONGEST_S = 0.05  # of the processor's time, in which nothing else of the loop runs
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\\\,:{[é', max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\\\{', max_size=3), inner, max_size=4),
    max_leaves=30,
)


@pytest.fixture(autouse=True, scope="module")
def _frozen(offline: TestClient) -> Iterator[None]:  # noqa: ARG001 (what it holds is frozen, too)
    """As in an ingress, no collection looks at what has been there from the start."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def asked(client: TestClient, path: str, content: bytes) -> tuple[httpx.Response, float]:
    """The answer, and the longest time for which the loop was kept meanwhile."""
    longest, over = 0.0, False

    async def watch() -> None:
        nonlocal longest
        last = thread_time()
        while not over:
            await asyncio.sleep(0)
            now = thread_time()
            longest, last = max(longest, now - last), now

    async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://here") as here:
        watching = asyncio.create_task(watch())
        response = await here.post(path, content=content, headers={"content-type": "application/json"})
        over = True
        await watching
    return response, longest


@pytest.mark.parametrize("kind", list(BODIES))
def test_no_body_keeps_the_event_loop(kind: str, offline: TestClient) -> None:
    path, content, param = BODIES[kind]()
    assert len(content) > 3 * 2**20
    response, longest = asyncio.run(asked(offline, path, content))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error
    assert len(response.content) < 3000
    assert longest < LONGEST_S


@pytest.mark.parametrize(("words", "status"), [(20_000, 200), (360_000, 400)])
def test_a_long_text_is_encoded_aside(words: int, status: int, offline: TestClient) -> None:
    content = to_json({"prompt": "the fox " * (words // 2), "return_token_strs": True})
    response, longest = asyncio.run(asked(offline, "/tokenize", content))
    assert response.status_code == status, response.text[:300]
    assert longest < LONGEST_S


def entries(value: object) -> tuple[int, int]:
    """Objects and lists; names."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    below = [entries(one) for one in inner]
    names = len(value) if isinstance(value, dict) else 0
    return isinstance(value, (dict, list)) + sum(o for o, _ in below), names + sum(n for _, n in below)


@given(value=VALUES, size=st.integers(2, 9))
def test_what_is_counted_in_chunks_is_what_there_is(value: object, size: int) -> None:
    content, count = to_json(value), Count()
    for begin, end in chunks(content, size):
        count.add(content[begin:end])
    assert (count.objects, count.names) == entries(value)
    assert not count.in_text
