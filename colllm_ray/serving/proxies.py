"""What stands around Serve's proxies, which Serve is told by the path of a function."""

from __future__ import annotations

from starlette.middleware import Middleware

from colllm_ray.serving.proxy_headers import ProxyHeaders
from colllm_ray.serving.until_started import UntilStarted


def middlewares() -> list[Middleware]:
    """The first one is passed first."""
    return [Middleware(ProxyHeaders), Middleware(UntilStarted)]
