"""The way from a router to an expert: Serve handle calls that stay with one replica for a session."""

from __future__ import annotations

from ray.serve.handle import DeploymentHandle

from colllm_ray.engine.messages import Behind, Extend, Extended


class ExpertLink:
    """A `ModelClient` for an `Expert` deployment.

    The session's name decides the replica; where that replica is lost, another one answers `Behind` and catches up.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def extend(self, request: Extend) -> Extended | Behind:
        reply: Extended | Behind = await self._handle.options(session_id=request.session).extend.remote(request)
        return reply

    async def close(self, session: str) -> None:
        await self._handle.options(session_id=session).close.remote(session)
