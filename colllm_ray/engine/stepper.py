"""The front of an engine in an event loop: what arrives while a step runs joins the next one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from colllm_ray.engine.engine import Engine
from colllm_ray.engine.messages import Deliver, Extend, Extended, Failed, Reply

logger = logging.getLogger(__name__)

CHUNK = 512  # tokens of one session a step at most, so that a long prompt does not hold up the others


@dataclass(frozen=True)
class _Waiting:
    request: Extend
    deliver: Deliver
    since: float  # on the clock of perf_counter


@dataclass
class StepTimes:
    """What the engine did so far."""

    steps: int = 0
    tokens: int = 0  # taken in
    seconds: float = 0.0  # in steps


class Stepper:
    """Serves many answers with one engine; not safe for threads: everything happens in one event loop.

    A step runs in the loop itself: a thread of its own would cost two hand-overs a token, and whoever waits for a
    token has nothing to do meanwhile that the step would not delay as well.
    """

    works_beside = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.times = StepTimes()
        self.failed_steps = 0  # since the last one that went well
        self._waiting: dict[str, _Waiting] = {}  # by session, the oldest first
        self._scheduled = False

    def post(self, request: Extend, deliver: Deliver) -> None:
        """Serves the request in one of the next steps; `deliver` gets what comes of it, never before this returns.

        It takes the place of the session's request or draft that still waits, and takes over its tokens.
        """
        session = request.session
        older = self._waiting.pop(session, None)
        if older is not None and older.request.start <= request.start <= older.request.end:
            kept = older.request.tokens[: request.start - older.request.start]
            request = replace(request, start=older.request.start, tokens=kept + request.tokens)
        self._waiting[session] = _Waiting(request, deliver, time.perf_counter())
        self._schedule()

    def within(self, wait_s: float) -> Stepper:  # noqa: ARG002
        """Itself: nobody waits for a model that is in the same process."""
        return self

    def close_session(self, session: str) -> None:
        """Ends a session; what it still waited for is given up."""
        self._waiting.pop(session, None)
        self.engine.close(session)

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        batch = [self._waiting.pop(session) for session in list(self._waiting)[: self.engine.sessions]]
        if not batch:
            return
        requests = [self._chunk(waiting.request) for waiting in batch]
        begin = time.perf_counter()
        replies = self._extend(requests)
        end = time.perf_counter()
        self.times.seconds += end - begin
        self.times.steps += 1
        self.times.tokens += sum(len(request.tokens) for request in requests)
        for waiting, request, reply in zip(batch, requests, replies, strict=True):
            if isinstance(reply, Extended) and request.end < waiting.request.end:
                rest = replace(waiting.request, start=request.end, tokens=waiting.request.tokens[len(request.tokens) :])
                self._waiting[request.session] = replace(waiting, request=rest)
            else:
                if isinstance(reply, Extended):
                    reply = replace(reply, seconds=end - waiting.since)
                waiting.deliver(reply)
                if isinstance(reply, Extended) and waiting.request.draft:
                    self._go_on(waiting, reply)
        self._schedule()

    def _extend(self, requests: Sequence[Extend]) -> list[Reply]:
        """One step; one for which there is no memory is taken in two halves."""
        try:
            replies = self.engine.extend(requests)
        except torch.OutOfMemoryError as error:
            if len(requests) > 1:
                half = len(requests) // 2
                return self._extend(requests[:half]) + self._extend(requests[half:])
            return self._failed(requests, error)
        except Exception as error:  # noqa: BLE001 (each session is told, whatever it is)
            return self._failed(requests, error)
        self.failed_steps = 0
        return replies

    def _failed(self, requests: Sequence[Extend], error: Exception) -> list[Reply]:
        logger.error("a step over %d sessions failed", len(requests), exc_info=error)
        self.failed_steps += 1
        reason = f"{type(error).__name__}: {error}"
        return [Failed(request.session, request.number, reason) for request in requests]

    def _chunk(self, request: Extend) -> Extend:
        """As much of the request as one step takes in."""
        if len(request.tokens) - request.want <= CHUNK:
            return request
        return replace(request, tokens=request.tokens[:CHUNK], want=0, draft=0, gold=())

    def _go_on(self, waiting: _Waiting, reply: Extended) -> None:
        """Lets the model take in what it wrote and go on from there."""
        request = waiting.request
        token = reply.choices[-1].token
        own = replace(request, start=request.end, tokens=(token,), want=1, draft=request.draft - 1, gold=())
        if own.end <= self.engine.context:
            self._waiting[request.session] = _Waiting(own, waiting.deliver, time.perf_counter())
