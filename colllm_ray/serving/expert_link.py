"""The way from a router to an expert, whichever of its replicas a session is on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle

from colllm_ray.engine.messages import Deliver, Extend, Failed, Reply
from colllm_ray.serving.lease import Lease, Leases, NoReplicaError

logger = logging.getLogger(__name__)


@dataclass
class _Session:
    request: Extend  # the latest
    deliver: Deliver
    lease: Lease | None = None
    opening: asyncio.Task[None] | None = None


class ExpertLink:
    """A `ModelClient` for an `Expert` deployment.

    A session keeps to one replica. Where that is lost, the session goes on with another one, which answers `Behind`
    and is sent the text. Not safe for threads.
    """

    works_beside = True

    def __init__(self, handle: DeploymentHandle) -> None:
        self._leases = Leases(handle)
        self._sessions: dict[str, _Session] = {}

    def post(self, request: Extend, deliver: Deliver) -> None:
        session = self._sessions.get(request.session)
        if session is None:
            session = _Session(request, deliver, lease=self._leases.take_idle())
            self._sessions[request.session] = session
        else:
            session.request, session.deliver = request, deliver
        self._send(session)

    def close_session(self, session: str) -> None:
        ended = self._sessions.pop(session, None)
        if ended is None:
            return
        if ended.opening is not None:
            ended.opening.cancel()
        if ended.lease is not None:
            ended.lease.connection.close_session(session)
            self._leases.give_back(ended.lease)

    def _send(self, session: _Session) -> None:
        if session.lease is not None:
            session.lease.connection.post(session.request, self._deliver)
        elif session.opening is None:
            session.opening = asyncio.create_task(self._open(session))

    async def _open(self, session: _Session) -> None:
        try:
            session.lease = await self._leases.open()
        except NoReplicaError as error:
            session.deliver(Failed(session.request.session, session.request.number, str(error)))
        else:
            self._send(session)
        finally:
            session.opening = None

    def _deliver(self, reply: Reply) -> None:
        session = self._sessions.get(reply.session)
        if session is None:
            return
        if isinstance(reply, Failed) and session.lease is not None and session.lease.connection.closed:
            logger.warning("%s; the session goes on with another replica", reply.reason)
            session.lease = None
            self._send(session)
        else:
            session.deliver(reply)
