"""Headers at which a proxy of Serve would fail, or which it would carry through all logs: it never sees them."""

from __future__ import annotations

from ray.serve._private.constants import (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_ID_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
)
from starlette.types import ASGIApp, Receive, Scope, Send

LONGEST = 200  # bytes
READ_BY_SERVE = {
    name.lower().replace("-", "_").encode()
    for name in (
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        SERVE_HTTP_REQUEST_ID_HEADER,
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_MULTIPLEXED_MODEL_ID,
        SERVE_SESSION_ID,
    )
}


class ProxyHeaders:
    """Leaves out headers for Serve that are long or not printable ASCII: a request without an id is given one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if _is_good(name, value)]}
        await self._app(scope, receive, send)


def _is_good(name: bytes, value: bytes) -> bool:
    if name.lower().replace(b"-", b"_") not in READ_BY_SERVE:
        return True
    return len(value) <= LONGEST and value.isascii() and value.decode("ascii").isprintable()
