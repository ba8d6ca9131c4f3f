"""The asynchronous front of an engine: what arrives while a step runs joins the next one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from colllm_ray.engine.engine import Engine
from colllm_ray.engine.messages import Behind, Extend, Extended


class Stepper:
    """Serves many tasks of one event loop with one engine, whose steps run in a thread of their own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._waiting: list[tuple[Extend, asyncio.Future[Extended | Behind]]] = []
        self._running: asyncio.Task[None] | None = None

    async def extend(self, request: Extend) -> Extended | Behind:
        """The engine's answer, after at most one step that was already running."""
        answer: asyncio.Future[Extended | Behind] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._step_while_any_wait())
        return await answer

    async def close(self, session: str) -> None:
        """Forgets a session, once the step that is running is over."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.close, session)

    async def _step_while_any_wait(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    replies = await loop.run_in_executor(
                        self._thread, self._engine.extend, [request for request, _ in batch]
                    )
                except Exception as error:  # noqa: BLE001 (the callers get it; the next step goes on)
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), reply in zip(batch, replies, strict=True):
                    if not answer.done():  # a caller that has gone away has cancelled its future
                        answer.set_result(reply)
        finally:
            self._running = None
