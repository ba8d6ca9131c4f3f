"""The way from a router to an expert, whichever of its replicas a session is on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.model_client import ModelClient
from colllm_ray.engine.messages import Behind, Deliver, Extend, Extended, Failed, Reply
from colllm_ray.link.client import SILENCE_S
from colllm_ray.serving.lease import Lease, Leases, NoReplicaError

logger = logging.getLogger(__name__)

WAIT_S = 60.0  # about what Serve needs to start a replica
FAILURES = 5  # one after the other, after which no further replica is tried: the question may be what breaks them


@dataclass
class _Session:
    request: Extend  # the latest
    deliver: Deliver
    wait_s: float
    answered: bool = False  # the latest request was; only its draft goes on
    lease: Lease | None = None
    opening: asyncio.Task[None] | None = None
    failures: int = 0


class ExpertLink:
    """A `ModelClient` for an `Expert` deployment.

    A session keeps to one replica. Where that is lost, hangs or fails, the session goes on with another one, which
    answers `Behind` and is sent the text. Not safe for threads.
    """

    works_beside = True

    def __init__(self, handle: DeploymentHandle, silence_s: float = SILENCE_S) -> None:
        self._leases = Leases(handle, silence_s)
        self._sessions: dict[str, _Session] = {}

    def within(self, wait_s: float) -> ModelClient:
        """The same for those who wait so long for a replica, in seconds, where there is none."""
        return _Within(self, wait_s)

    def post(self, request: Extend, deliver: Deliver, wait_s: float = WAIT_S) -> None:
        session = self._sessions.get(request.session)
        if session is None:
            session = _Session(request, deliver, wait_s, lease=self._leases.take_idle())
            self._sessions[request.session] = session
        else:
            session.request, session.deliver, session.answered = request, deliver, False
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
            session.lease = await self._leases.open(session.wait_s)
        except NoReplicaError as error:
            self._give_up(session, str(error))
        except Exception as error:
            logger.exception("a session could not be opened")
            self._give_up(session, repr(error))
        else:
            self._send(session)
        finally:
            session.opening = None

    def _deliver(self, reply: Reply) -> None:
        session = self._sessions.get(reply.session)
        if session is None:
            return
        if not isinstance(reply, Failed):
            session.failures = 0
            session.answered |= isinstance(reply, Extended) and reply.number == session.request.number
            session.deliver(reply)
            return
        session.failures += 1
        if session.lease is not None:
            session.lease.connection.close_session(reply.session)
            self._leases.drop(session.lease)
            session.lease = None
        if session.failures >= FAILURES:
            self._give_up(session, reply.reason)
        elif session.answered:  # what was lost is a draft: another replica does not know how far it was
            session.deliver(Behind(reply.session, session.request.number, 0))
        else:
            logger.warning("%s; the session goes on with another replica", reply.reason)
            self._send(session)

    def _give_up(self, session: _Session, reason: str) -> None:
        session.deliver(Failed(session.request.session, session.request.number, reason))


@dataclass(frozen=True)
class _Within:
    link: ExpertLink
    wait_s: float
    works_beside = True

    def post(self, request: Extend, deliver: Deliver) -> None:
        self.link.post(request, deliver, self.wait_s)

    def close_session(self, session: str) -> None:
        self.link.close_session(session)
