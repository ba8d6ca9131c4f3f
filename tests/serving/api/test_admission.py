from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest

from colllm_ray.serving.api.admission import Admission
from colllm_ray.serving.api.errors import ApiError
from colllm_ray.serving.api.router_calls import Deadline


def test_answers_beyond_the_places_wait_and_beyond_those_are_refused() -> None:
    async def run() -> None:
        admission = Admission(at_once=2, waiting=1)
        go_on = asyncio.Event()

        async def answer() -> None:
            async with admission.place(Deadline(60)):
                await go_on.wait()

        tasks = []
        for expected in ((1, 0), (2, 0), (2, 1)):
            admission.check(1)
            tasks.append(asyncio.create_task(answer()))
            await asyncio.sleep(0)
            assert (admission.written, admission.waiting) == expected
        with pytest.raises(ApiError) as caught:
            admission.check(1)
        assert caught.value.status == HTTPStatus.TOO_MANY_REQUESTS
        assert caught.value.headers is not None
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
        go_on.set()
        await asyncio.gather(*tasks)
        admission.check(3)
        with pytest.raises(ApiError, match="4 answers: at most 3") as never:
            admission.check(4)
        assert never.value.status == HTTPStatus.BAD_REQUEST
        assert (admission.written, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_one_that_leaves_while_it_waits_takes_no_place() -> None:
    async def run() -> None:
        admission = Admission(at_once=1, waiting=5)

        async def answer(seconds: float) -> None:
            async with admission.place(Deadline(seconds)):
                await asyncio.sleep(60)

        writing = asyncio.create_task(answer(60))
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match=r"longer than 0.01 s"):
            await answer(0.01)
        leaving = asyncio.create_task(answer(60))
        await asyncio.sleep(0)
        for task in (leaving, writing):
            task.cancel()
        await asyncio.wait([leaving, writing])
        assert (admission.written, admission.waiting) == (0, 0)
        async with admission.place(Deadline(1)):
            assert admission.written == 1

    asyncio.run(run())
