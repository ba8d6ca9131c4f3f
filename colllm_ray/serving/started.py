"""Whether all of an application runs, or something of it cannot start."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from ray.exceptions import RayError

from colllm_ray.errors import ColllmError
from colllm_ray.serving.deployed import Deployed, deployed

EVERY_S = 1.0  # Serve's controller is asked, however often this is wanted
CONTROLLER_S = 3.0
STARTING = ("UPDATING", "DEPLOY_FAILED")  # Serve's words; one that dies later, or is woken from none, has others


class NotStartedError(Exception):
    """Deployments of which no replica runs yet."""


class Started:
    """What Serve's controller says of one application, a moment ago."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._missing: list[str] = []
        self._asked_at: float | None = None

    async def check(self) -> None:
        """Raises NotStartedError that names what does not run. While no controller answers, what it said last holds."""
        if self._asked_at is None or monotonic() - self._asked_at > EVERY_S:
            self._asked_at = monotonic()
            with suppress(RayError, ColllmError, TimeoutError):
                self._missing = await asyncio.wait_for(asyncio.to_thread(self._ask), CONTROLLER_S)
        if self._missing:
            raise NotStartedError(f"no replica runs yet of {', '.join(self._missing)}")

    def _ask(self) -> list[str]:
        return [one.name for one in deployed() if one.application == self._application and _is_missing(one)]


def _is_missing(one: Deployed) -> bool:
    return one.status in STARTING and one.wanted > 0 and not one.running
