"""What the proxies of Serve answer while an application starts: before they know its route, and before all of it runs.

Left alone they would answer 404 first, then hold requests, then answer without the experts that cannot start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from colllm_ray.serving.api.errors import ApiError

LOOK_S, LOOK_AGAIN_S = 0.5, 10.0  # between two looks, while something starts and later
ANSWER_S = 5.0  # that the controller has
OF_SERVE = "/-/"  # paths of its own, such as the proxy's health
HAVE_STARTED = ("RUNNING", "UNHEALTHY")
RETRY_AFTER_S = 5
STARTING = ApiError(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the models are starting; try again",
    code="starting",
    headers={"Retry-After": str(RETRY_AFTER_S)},
)


def middlewares() -> list[Middleware]:
    """What Serve is told to put around its proxies, by the path of this function."""
    return [Middleware(UntilStarted)]


class UntilStarted:
    """Answers 503 for an application that has not run as a whole yet. One that has is never held up again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._has_started: dict[str, bool] = {}  # by route prefix
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OF_SERVE):
            await self._look()
            if self._is_starting(scope["path"]):
                await STARTING.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_starting(self, path: str) -> bool:
        prefixes = [prefix for prefix in self._has_started if _is_below(path, prefix)]
        if not prefixes:  # Serve's own 404, unless what is to be there is only being deployed
            return not any(self._has_started.values())
        return not self._has_started[max(prefixes, key=len)]

    @property
    def _waits(self) -> bool:
        return not self._has_started or not all(self._has_started.values())

    async def _look(self) -> None:
        """Asks the controller now and then; only while something starts does a request wait for what it says."""
        if self._looking is None and time.monotonic() >= self._look_at:
            self._looking = asyncio.create_task(self._ask())
        if self._looking is not None and self._waits:
            await asyncio.shield(self._looking)

    async def _ask(self) -> None:
        try:
            controller = ray.get_actor(SERVE_CONTROLLER_NAME, SERVE_NAMESPACE)
            details = await asyncio.wait_for(controller.get_serve_instance_details.remote(), ANSWER_S)
        except (ray.exceptions.RayError, ValueError, TimeoutError):  # it is not there now; what was known holds
            pass
        else:
            self._take_in(details["applications"].values())
        finally:
            self._looking = None
            self._look_at = time.monotonic() + (LOOK_S if self._waits else LOOK_AGAIN_S)

    def _take_in(self, applications: Iterable[dict[str, Any]]) -> None:
        self._has_started = {
            prefix: self._has_started.get(prefix, False) or one["status"] in HAVE_STARTED
            for one in applications
            if (prefix := one["route_prefix"]) is not None
        }


def _is_below(path: str, prefix: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")
