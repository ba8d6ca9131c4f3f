"""A router's claims on replicas of one expert: placed by Serve, used over the link, kept for the next answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import uuid4

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from colllm_ray.link.client import LinkConnection, LinkError
from colllm_ray.serving.expert import ReplicaAddress

LINGER_S = 2.0  # an unused lease is kept that long: opening one costs as much as several tokens
WITHIN_S = 60.0  # to find a replica, where none answers: about what Serve needs to start another one
RETRY_S = 0.2


@dataclass(frozen=True)
class Lease:
    """Room for one session on one replica: a streaming call that Serve counts for as long as it is held."""

    name: str
    connection: LinkConnection
    stream: DeploymentResponseGenerator


class NoReplicaError(Exception):
    """No replica of an expert could be reached in time."""


class Leases:
    """Leases of one expert's replicas; a lease that is given back serves the next session."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle.options(stream=True)
        self._idle: list[Lease] = []
        self._connections: dict[ReplicaAddress, asyncio.Task[LinkConnection]] = {}

    def take_idle(self) -> Lease | None:
        """One that was given back a moment ago and still holds."""
        while self._idle:
            lease = self._idle.pop()
            if not lease.connection.closed:
                return lease
        return None

    async def open(self) -> Lease:
        """A new one, wherever Serve places it. Raises NoReplicaError."""
        problem: Exception | None = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    try:
                        return await self._open()
                    except (RayError, RayServeException, LinkError) as error:
                        problem = error  # the replica that Serve chose has just died: the next one
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            name = self._handle.deployment_name
            raise NoReplicaError(f"{name}: no replica within {WITHIN_S:g} s: {problem or 'all are busy'}") from problem

    def give_back(self, lease: Lease) -> None:
        """Keeps it for the next session, for a while."""
        self._idle.append(lease)
        asyncio.get_running_loop().call_later(LINGER_S, self._end_if_idle, lease)

    async def _open(self) -> Lease:
        name = uuid4().hex
        stream = self._handle.hold.remote(name)
        try:
            address = await anext(stream)
            connection = await self._connect(address)
            connection.hold(name)
        except BaseException:
            stream.cancel()
            raise
        return Lease(name, connection, stream)

    async def _connect(self, address: ReplicaAddress) -> LinkConnection:
        """The connection to a replica, which all leases there share."""
        task = self._connections.get(address)
        if task is None or (task.done() and (task.exception() or task.result().closed)):
            opening = LinkConnection.open(address.host, address.port, address.secret)
            task = self._connections[address] = asyncio.create_task(opening)
        return await asyncio.shield(task)

    def _end_if_idle(self, lease: Lease) -> None:
        if lease in self._idle:
            self._idle.remove(lease)
            lease.connection.release(lease.name)
            for address, task in list(self._connections.items()):  # those of replicas that are gone
                if task.done() and (task.exception() or task.result().closed):
                    del self._connections[address]
