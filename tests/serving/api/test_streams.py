from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from colllm_ray.serving.api.streams import begun, merged


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
        await asyncio.sleep(0.01)
        assert sorted(closed) == [0, 1, 2]

    asyncio.run(run())


def test_what_fails_at_the_beginning_fails_before_the_stream() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="on fire"):
            await begun(numbers(0, [], 0, fails=True))
        assert [item async for item in await begun(numbers(3, [], 0))] == [0, 1, 2]

    asyncio.run(run())
