from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest
from starlette.types import Message

from colllm_ray.serving.api.answers import Health
from colllm_ray.serving.api.streams import EventStream, merged


async def numbers(count: int, closed: list[int], name: int, fails: bool = False) -> AsyncGenerator[int, None]:
    try:
        for i in range(count):
            await asyncio.sleep(0)
            yield i
        if fails:
            raise ValueError("on fire")
    finally:
        closed.append(name)


@pytest.mark.parametrize("counts", [[3], [3, 0, 5]])
def test_each_stream_comes_whole_and_in_order(counts: list[int]) -> None:
    async def run() -> None:
        closed: list[int] = []
        got: dict[int, list[int]] = {i: [] for i in range(len(counts))}
        async for name, item in merged([numbers(count, closed, i) for i, count in enumerate(counts)]):
            got[name].append(item)
        assert got == {i: list(range(count)) for i, count in enumerate(counts)}
        assert sorted(closed) == list(range(len(counts)))

    asyncio.run(run())


@pytest.mark.parametrize("others", [0, 2])
def test_one_that_fails_ends_all(others: int) -> None:
    async def run() -> None:
        closed: list[int] = []
        streams = [numbers(2, closed, 0, fails=True), *(numbers(10**6, closed, i) for i in range(1, others + 1))]
        with pytest.raises(ValueError, match="on fire"):
            async for _ in merged(streams):
                pass
        assert sorted(closed) == list(range(others + 1))

    asyncio.run(run())


def test_a_reader_that_leaves_ends_all() -> None:
    async def run() -> None:
        closed: list[int] = []
        stream = merged([numbers(10**6, closed, i) for i in range(3)])
        await anext(stream)
        await stream.aclose()
        assert sorted(closed) == [0, 1, 2]

    asyncio.run(run())


async def chunks(count: int, closed: list[int], fails: bool = False) -> AsyncGenerator[Health, None]:
    async with aclosing(numbers(count, closed, 0, fails)) as items:
        async for _ in items:
            yield Health()


def test_what_fails_at_the_beginning_fails_before_the_stream() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="on fire"):
            await EventStream.begun(chunks(0, [], fails=True))

    asyncio.run(run())


@pytest.mark.parametrize("fails", [True, False])
def test_events_end_with_done_or_with_the_error(fails: bool) -> None:
    async def run() -> list[str]:
        stream = await EventStream.begun(chunks(2, [], fails))
        return [str(event) async for event in stream.body_iterator]

    *events, last = asyncio.run(run())
    assert events == ["data: {}\n\n"] * 2  # what is not set is left out
    assert ('"code":"internal_error"' in last) == fails
    assert (last == "data: [DONE]\n\n") == (not fails)


def test_a_client_that_is_gone_before_the_first_event_ends_the_answer() -> None:
    async def run() -> None:
        closed: list[int] = []

        async def gone(_: Message) -> None:
            raise OSError("gone")

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        stream = await EventStream.begun(chunks(10**6, closed))
        with suppress(Exception):
            await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, gone)
        assert closed == [0]

    asyncio.run(run())
