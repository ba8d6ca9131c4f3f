"""How many answers are written at once, and how many may wait for that."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic

from colllm_ray.serving.api.errors import ApiError, refused
from colllm_ray.serving.api.router_calls import Deadline

MEMORY = 0.1  # the weight of the newest answer in how long one takes
LONGEST_RETRY_S = 60


class Admission:
    """Lets `at_once` answers be written, and `waiting` more wait for their turn; `tell_waiting` hears how many do."""

    def __init__(self, at_once: int, waiting: int, tell_waiting: Callable[[int], None] = lambda _: None) -> None:
        self._at_once = at_once
        self._may_wait = waiting
        self._places = asyncio.Semaphore(at_once)
        self._seconds = 1.0  # that an answer takes
        self.written = 0
        self.waiting = 0
        self._tell_waiting = tell_waiting

    def check(self, answers: int) -> None:
        """Raises ApiError where so many more answers would make too many wait: with status 429, if that may change."""
        if answers > self._at_once + self._may_wait:
            most = self._at_once + self._may_wait
            raise refused(f"{answers} answers: at most {most} can be asked for at once", "n")
        if self.waiting + answers > self._at_once - self.written + self._may_wait:
            after = math.ceil(self._seconds * (self.waiting + 1) / self._at_once)
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.written} answers are being written and {self.waiting} wait; try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(min(max(after, 1), LONGEST_RETRY_S))},
            )

    @asynccontextmanager
    async def place(self, deadline: Deadline) -> AsyncIterator[None]:
        """Waits for its turn; an answer may be written for as long as the body runs. Raises ApiError."""
        self._count_waiting(1)
        try:
            await deadline.of(self._places.acquire())
        finally:
            self._count_waiting(-1)
        self.written += 1
        begin = monotonic()
        try:
            yield
        finally:
            self.written -= 1
            self._seconds += MEMORY * (monotonic() - begin - self._seconds)
            self._places.release()

    def _count_waiting(self, change: int) -> None:
        self.waiting += change
        self._tell_waiting(self.waiting)
