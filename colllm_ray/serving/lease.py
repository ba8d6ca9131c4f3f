"""A router's claims on replicas of one expert: placed by Serve, used over the link, kept for the next answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from colllm_ray.link.client import LinkConnection, LinkError
from colllm_ray.serving.cancelled import is_cancelled
from colllm_ray.serving.expert import ReplicaAddress

logger = logging.getLogger(__name__)

LINGER_S = 2.0  # an unused lease is kept that long: opening one costs as much as several tokens
LONGEST_S = 10.0  # an older one serves no further session: Serve wants to fill new replicas and to empty old ones
LEAST_WAIT_S = 1.0  # in which a replica that runs is found
WARM_S = 120.0  # for which a replica is asked for although nobody waits for it
RETRY_S = 0.2


@dataclass(frozen=True)
class Lease:
    """Room for one session on one replica: a streaming call that Serve counts for as long as it is held."""

    name: str
    connection: LinkConnection
    stream: DeploymentResponseGenerator
    since: float  # on the clock of `monotonic`


class NoReplicaError(Exception):
    """No replica of an expert could be reached in time."""


class Leases:
    """Leases of one expert's replicas; a lease that is given back serves the next session.

    A replica that says nothing for `silence_s`, although it should, is given up as hung.
    """

    def __init__(self, handle: DeploymentHandle, silence_s: float) -> None:
        self._handle = handle.options(stream=True)
        self._silence_s = silence_s
        self._idle: list[Lease] = []
        self._warming: asyncio.Task[Lease] | None = None  # that others have waited for in vain
        self._problem: str | None = None  # why the latest replica could not be reached
        self._connections: dict[ReplicaAddress, asyncio.Task[LinkConnection]] = {}

    def take_idle(self) -> Lease | None:
        """One that was given back a moment ago and still holds."""
        while self._idle:
            lease = self._idle.pop()
            if not lease.connection.closed:
                return lease
        return None

    async def open(self, wait_s: float) -> Lease:
        """A new one, wherever Serve places it. Raises NoReplicaError where that takes longer than `wait_s`.

        Where others have waited in vain a moment ago, `wait_s` may be 0; else it is a second at least.
        """
        is_known_cold = self._warming is not None and not self._warming.done()
        wait_s = wait_s if is_known_cold else max(wait_s, LEAST_WAIT_S)
        opening = asyncio.create_task(self._open())
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(opening)
        except TimeoutError:
            self._let_warm(opening)
            why = f": {self._problem}" if self._problem else ""
            raise NoReplicaError(f"{self._handle.deployment_name}: no replica within {wait_s:g} s{why}") from None
        except asyncio.CancelledError:  # the session has ended, maybe just when the lease was there
            opening.cancel()
            opening.add_done_callback(self._keep)
            raise

    def give_back(self, lease: Lease) -> None:
        """Keeps it for the next session, for a while."""
        if monotonic() - lease.since > LONGEST_S:
            lease.connection.release(lease.name)
            return
        self._idle.append(lease)
        asyncio.get_running_loop().call_later(LINGER_S, self._end_if_idle, lease)

    def drop(self, lease: Lease) -> None:
        """Ends it at once: no other session should come to this replica."""
        lease.connection.release(lease.name)

    def _let_warm(self, opening: asyncio.Task[Lease]) -> None:
        """Nobody waits for it any more, but the next one should find a replica."""
        if self._warming is not None and not self._warming.done():
            opening.cancel()
        else:
            self._warming = opening
            asyncio.get_running_loop().call_later(WARM_S, opening.cancel)
        opening.add_done_callback(self._keep)

    def _keep(self, opening: asyncio.Task[Lease]) -> None:
        """A lease that came when nobody waited for it serves the next session."""
        if opening.cancelled():
            return
        if (error := opening.exception()) is not None:
            logger.warning("%s: no lease: %r", self._handle.deployment_name, error)
        else:
            self.give_back(opening.result())

    async def _open(self) -> Lease:
        """Tries until it has one."""
        within_s = LEAST_WAIT_S
        while True:
            try:
                async with asyncio.timeout(within_s):
                    return await self._try()
            except TimeoutError:  # Serve has none that runs, or has chosen one that hangs: it may choose another now
                within_s = min(2 * within_s, max(self._silence_s, LEAST_WAIT_S))
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                await asyncio.sleep(RETRY_S)
            except (RayError, RayServeException, LinkError) as error:
                self._problem = f"{type(error).__name__}: {error}"
                await asyncio.sleep(RETRY_S)  # it has just died: the next one

    async def _try(self) -> Lease:
        name = uuid4().hex
        stream = self._handle.hold.remote(name)
        try:
            address = await anext(stream)
            connection = await self._connect(address)
            connection.hold(name)
        except BaseException:
            stream.cancel()
            raise
        self._problem = None
        return Lease(name, connection, stream, monotonic())

    async def _connect(self, address: ReplicaAddress) -> LinkConnection:
        """The connection to a replica, which all leases there share."""
        task = self._connections.get(address)
        if task is None or (task.done() and (task.exception() or task.result().closed)):
            opening = LinkConnection.open(address.host, address.port, address.secret, silence_s=self._silence_s)
            task = self._connections[address] = asyncio.create_task(opening)
        return await asyncio.shield(task)

    def _end_if_idle(self, lease: Lease) -> None:
        if lease in self._idle:
            self._idle.remove(lease)
            lease.connection.release(lease.name)
            for address, task in list(self._connections.items()):  # those of replicas that are gone
                if task.done() and (task.exception() or task.result().closed):
                    del self._connections[address]
