"""What the proxies of Serve answer while an application starts: before they know its route, and before all of it runs.

Left alone they would answer 404 first, then hold requests, then answer without the experts that cannot start.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import ray
from ray.serve._private.common import EndpointInfo
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace
from starlette.types import ASGIApp, Receive, Scope, Send

from colllm_ray.serving.api.errors import ApiError

LOOK_S = 0.5  # between two looks
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


class UntilStarted:
    """Answers 503 for an application that has not run as a whole yet. One that has is never held up again.

    Made in the event loop of the proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._has_started: dict[str, bool] = {}  # by route prefix
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._controller = ray.get_actor(SERVE_CONTROLLER_NAME, SERVE_NAMESPACE)
        LongPollClient(
            self._controller,
            {LongPollNamespace.ROUTE_TABLE: self._take_in},
            call_in_event_loop=asyncio.get_running_loop(),
            client_id=f"{type(self).__name__}:{ray.get_runtime_context().get_actor_id()}",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OF_SERVE):
            if not all(self._has_started.values()):
                await self._look()
            if self._is_starting(scope["path"]):
                await STARTING.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_starting(self, path: str) -> bool:
        if not self._has_started:
            return True  # nothing is deployed yet
        prefixes = [prefix for prefix in self._has_started if _is_below(path, prefix)]
        return bool(prefixes) and not self._has_started[max(prefixes, key=len)]

    def _take_in(self, endpoints: dict[object, EndpointInfo]) -> None:
        """What Serve tells its proxies when routes change: long before what is behind a new one runs."""
        self._has_started = {one.route: self._has_started.get(one.route, False) for one in endpoints.values()}

    async def _look(self) -> None:
        """Asks the controller what has started, for all requests at once, now and then."""
        if self._looking is None and time.monotonic() >= self._look_at:
            self._looking = asyncio.create_task(self._ask())
        if self._looking is not None:
            await asyncio.shield(self._looking)

    async def _ask(self) -> None:
        try:
            details = await asyncio.wait_for(self._controller.get_serve_instance_details.remote(), ANSWER_S)
        except (ray.exceptions.RayError, TimeoutError):  # it does not answer now; it is asked again
            return
        finally:
            self._looking, self._look_at = None, time.monotonic() + LOOK_S
        for one in details["applications"].values():
            if one["status"] in HAVE_STARTED and one["route_prefix"] in self._has_started:
                self._has_started[one["route_prefix"]] = True


def _is_below(path: str, prefix: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")
