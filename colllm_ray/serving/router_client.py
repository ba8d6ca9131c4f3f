"""How others call the router, and what it streams to them."""

from __future__ import annotations

from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.written import WrittenToken

SIGN_S = 3.0  # from one sign of life of a router to the next
SILENCE_S = 20.0  # without one, after which it is given up as hung
FIRST_SIGN_S = 60.0  # until the first one: the answer may have to wait for room


@dataclass(frozen=True)
class Chunk:
    """Tokens of an answer that follow those of the chunk before, and what the answer has cost so far.

    One without tokens says that the router is there.
    calls: questions to each of the members, in the order of the head's choices; lost: the experts that failed under it.
    """

    tokens: tuple[WrittenToken, ...]
    calls: tuple[int, ...]
    lost: tuple[int, ...]


def router_client(router: DeploymentHandle) -> DeploymentHandle:
    """The router, called over Serve's gRPC rather than as a Ray actor, which costs both sides more than twice as much.

    Ray's token authentication guards both alike. `_by_reference` is Serve's experimental name for it.
    """
    return router.options(_by_reference=False)
