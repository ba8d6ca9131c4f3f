"""The asynchronous front of an engine: what arrives while a step runs joins the next one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from colllm_ray.engine.engine import Engine
from colllm_ray.engine.messages import Behind, Extend, Extended

_Waiting = tuple[Extend, "asyncio.Future[Extended | Behind]"]


class Stepper:
    """Serves many tasks of one event loop with one engine, whose steps run in a thread of their own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def extend(self, request: Extend) -> Extended | Behind:
        """The engine's answer, after at most one step that was already running."""
        answer: asyncio.Future[Extended | Behind] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._step_while_any_wait())
        return await answer

    async def close(self, session: str) -> None:
        """Forgets a session, once the step that is running is over; what it still waited for is given up."""
        for waiting in [waiting for waiting in self._waiting if waiting[0].session == session]:
            self._waiting.remove(waiting)
            waiting[1].cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.close, session)

    async def _step_while_any_wait(self) -> None:
        try:
            while self._waiting:
                batch = [waiting for waiting in self._waiting if not waiting[1].done()]  # the others have gone away
                self._waiting = []
                try:
                    await self._step(batch)
                except Exception:  # noqa: BLE001 (which request it was shows when each is served alone)
                    for waiting in batch:
                        await self._step_alone(waiting)
        finally:
            self._running = None

    async def _step(self, batch: list[_Waiting]) -> None:
        requests = [request for request, _ in batch]
        replies = await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.extend, requests)
        for (_, answer), reply in zip(batch, replies, strict=True):
            if not answer.done():
                answer.set_result(reply)

    async def _step_alone(self, waiting: _Waiting) -> None:
        # Serving a request twice is no harm: a session that holds more than `start` is cut back to it.
        try:
            await self._step([waiting])
        except Exception as error:  # noqa: BLE001 (it is the caller's to handle)
            if not waiting[1].done():
                waiting[1].set_exception(error)
