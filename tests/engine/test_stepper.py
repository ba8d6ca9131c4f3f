from __future__ import annotations

import asyncio
from collections.abc import Callable

from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended
from colllm_ray.engine.stepper import Stepper

LanguageModelOf = Callable[[str], LanguageModel]


def test_many_tasks_get_the_answers_of_one_at_a_time(language_model: LanguageModelOf) -> None:
    requests = [Extend(f"s{i}", 0, (i, i + 1, i + 2)) for i in range(20)]
    alone = [Engine(language_model("llama"), 1).extend([request])[0] for request in requests]

    async def together() -> list[object]:
        stepper = Stepper(Engine(language_model("llama"), 32))
        return list(await asyncio.gather(*(stepper.extend(request) for request in requests)))

    assert asyncio.run(together()) == alone


def test_an_error_reaches_its_caller_alone(language_model: LanguageModelOf) -> None:
    async def run() -> None:
        stepper = Stepper(Engine(language_model("llama"), 4))
        bad, good = await asyncio.gather(
            stepper.extend(Extend("a", 0, (10_000,))),  # no such token
            stepper.extend(Extend("b", 0, (1,))),
            return_exceptions=True,
        )
        assert isinstance(bad, IndexError)
        assert isinstance(good, Extended)
        assert isinstance(await stepper.extend(Extend("b", 1, (2,))), Extended)

    asyncio.run(run())


def test_a_caller_that_gives_up_disturbs_nobody(language_model: LanguageModelOf) -> None:
    async def run() -> None:
        engine = Engine(language_model("llama"), 4)
        stepper = Stepper(engine)
        first = asyncio.create_task(stepper.extend(Extend("a", 0, (1,))))
        await asyncio.sleep(0)  # its step runs now; the others wait for the next
        await asyncio.sleep(0)
        cancelled = asyncio.create_task(stepper.extend(Extend("b", 0, (1,))))
        closed = asyncio.create_task(stepper.extend(Extend("c", 0, (1,))))
        stays = asyncio.create_task(stepper.extend(Extend("d", 0, (1,))))
        await asyncio.sleep(0)
        cancelled.cancel()
        await stepper.close("c")
        assert isinstance(await stays, Extended)
        assert isinstance(await first, Extended)
        assert closed.cancelled()
        assert engine.session_count == 2  # a and d

    asyncio.run(run())
