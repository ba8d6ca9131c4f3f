"""The front of an engine in an event loop: what arrives while a step runs joins the next one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from colllm_ray.engine.messages import Behind, Deliver, Extend, Extended, Failed, Reply
from colllm_ray.engine.stepping import StepsTexts, StepTimes

logger = logging.getLogger(__name__)

CHUNK = 512  # tokens of one session a step at most, so that a long prompt does not hold up the others
MOST_TOKENS = 4096  # of a step, so that the next one comes soon however many prompts are long


@dataclass(frozen=True)
class _Waiting:
    """A request, of which the first chunks may be taken in: `request` is the rest of the `whole`."""

    request: Extend
    whole: Extend
    deliver: Deliver
    since: float  # on the clock of perf_counter

    @property
    def is_begun(self) -> bool:
        return self.request.start > self.whole.start


class Stepper:
    """Serves many answers with one engine; not safe for threads: everything happens in one event loop.

    A step runs in the loop itself: a thread of its own would cost two hand-overs a token, and whoever waits for a
    token has nothing to do meanwhile that the step would not delay as well.
    """

    works_beside = False

    def __init__(self, engine: StepsTexts) -> None:
        self.engine = engine
        self.times = StepTimes()
        self.failed_sessions: set[str] = set()  # of the steps since the last one that went well
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
        self._waiting[session] = _Waiting(request, request, deliver, time.perf_counter())
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
        batch = self._batch()
        if not batch:
            return
        requests = [self._chunk(waiting.request) for waiting in batch]
        begin = time.perf_counter()
        replies = self._extend(requests)
        end = time.perf_counter()
        self.times.seconds += end - begin
        self.times.steps += 1
        self.times.tokens += sum(len(request.tokens) for request in requests)
        begun: dict[str, _Waiting] = {}
        for waiting, request, reply in zip(batch, requests, replies, strict=True):
            if isinstance(reply, Extended) and request.end < waiting.request.end:
                rest = replace(waiting.request, start=request.end, tokens=waiting.request.tokens[len(request.tokens) :])
                begun[request.session] = replace(waiting, request=rest)
            elif isinstance(reply, Behind) and waiting.is_begun:  # the first chunks had to make room
                self._waiting[request.session] = replace(waiting, request=waiting.whole)
            else:
                if isinstance(reply, Extended):
                    reply = replace(reply, seconds=end - waiting.since)
                waiting.deliver(reply)
                if isinstance(reply, Extended) and waiting.request.draft:
                    self._go_on(waiting, reply)
        self._waiting = begun | self._waiting  # first, so that they keep the place that they have taken
        self._schedule()

    def _batch(self) -> list[_Waiting]:
        """Who takes part in the next step: the first that wait, as many as there is room for."""
        batch: list[_Waiting] = []
        tokens = 0
        for session in list(self._waiting)[: self.engine.sessions]:
            tokens += len(self._chunk(self._waiting[session].request).tokens)
            if batch and tokens > MOST_TOKENS:
                break
            batch.append(self._waiting.pop(session))
        return batch

    def _extend(self, requests: Sequence[Extend]) -> list[Reply]:
        """One step; one for which there is no memory is taken in two halves."""
        try:
            replies = self.engine.extend(requests)
        except Exception as error:  # noqa: BLE001 (each session is told, whatever it is)
            if not isinstance(error, torch.OutOfMemoryError) or len(requests) == 1:
                return self._failed(requests, error)
        else:
            self.failed_sessions.clear()
            return replies
        # Only here is the memory free that the step had taken: the error held on to it.
        torch.cuda.empty_cache()
        half = len(requests) // 2
        return self._extend(requests[:half]) + self._extend(requests[half:])

    def _failed(self, requests: Sequence[Extend], error: Exception) -> list[Reply]:
        logger.error("a step over %d sessions failed", len(requests), exc_info=error)
        self.failed_sessions.update(request.session for request in requests)
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
            self._waiting[request.session] = _Waiting(own, own, waiting.deliver, time.perf_counter())
