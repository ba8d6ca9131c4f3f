"""The replica's end: takes connections from routers and serves the sessions that they open."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable

from colllm_ray.engine.messages import Deliver, Extend, Failed, Reply
from colllm_ray.link.channel import MAX_UNSENT, Channel
from colllm_ray.link.fields import WireError
from colllm_ray.link.handshake import client_mac, new_nonce, server_mac
from colllm_ray.link.lease import Leases
from colllm_ray.link.wire import Challenge, Close, Hold, Message, Ping, Pong, Proof, Release, Welcome

logger = logging.getLogger(__name__)

HANDSHAKE_S = 5.0


class LinkServer:
    """Hands each `Extend` to `serve`, with where its replies go, and each session's end to `close`.

    Not safe for threads: `serve` and `close` are called in the loop of `start`, and deliver there. `serve` raises
    ValueError for a request that it refuses. A peer that breaks the protocol loses its connection, and nobody else
    theirs: one warning in the log says who and why.
    """

    def __init__(
        self,
        serve: Callable[[Extend, Deliver], None],
        close: Callable[[str], None],
        secret: bytes,
        *,
        handshake_s: float = HANDSHAKE_S,
        max_unsent: int = MAX_UNSENT,
    ) -> None:
        self.serve = serve
        self.close = close
        self.secret = secret
        self.handshake_s = handshake_s
        self.max_unsent = max_unsent
        self.leases = Leases()
        self.owners: dict[str, _Connection] = {}  # by session
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        """Listens at `host`, an address of this machine; returns the port, which the system chooses."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Ends all connections, and with them their sessions and leases."""
        if self._server is not None:
            self._server.close()
            await asyncio.gather(*(connection.aclose() for connection in self.connections))
            await self._server.wait_closed()

    async def held(self, lease: str, bind_within_s: float = 10.0) -> None:
        """Returns when the lease, a name that is used once, was released or the connection that held it ended.

        Raises TimeoutError where no connection holds it within `bind_within_s`.
        """
        await self.leases.held(lease, bind_within_s)


class _Connection(Channel):
    """One router's connection."""

    def __init__(self, server: LinkServer) -> None:
        super().__init__(server.max_unsent)
        self._server = server
        self._nonce = new_nonce()
        self._sessions: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        self._server.connections.add(self)
        limit_s = self._server.handshake_s
        self._too_late = asyncio.get_running_loop().call_later(
            limit_s, self.fail, f"no proof of the secret within {limit_s:g} s"
        )
        self.send(Challenge(self._nonce))

    def received(self, message: Message) -> None:
        if not self.is_trusted:
            self._check(message)
            return
        match message:
            case Extend():
                self._extend(message)
            case Close(session=session):
                self._close(session)
            case Hold(lease=lease):
                self._server.leases.hold(lease, self)
            case Release(lease=lease):
                self._server.leases.release(lease, self)
            case Ping():
                self.send(Pong())
            case _:
                raise WireError(f"{type(message).__name__}: not what a client says now")

    def lost(self, fault: str | None) -> None:
        self._too_late.cancel()
        if fault is None and not self.is_trusted:
            fault = "closed before any proof of the secret"
        if fault is not None:
            logger.warning("connection from %s ended: %s", _address(self._peer), fault)
        self._server.connections.discard(self)
        self._server.leases.release_all(self)
        for session in self._sessions:
            del self._server.owners[session]
            self._server.close(session)

    def _check(self, message: Message) -> None:
        if not isinstance(message, Proof):
            raise WireError(f"{type(message).__name__} before any proof of the secret")
        secret = self._server.secret
        if not hmac.compare_digest(message.mac, client_mac(secret, self._nonce, message.nonce)):
            raise WireError("wrong proof: the peer does not know the secret")
        self._too_late.cancel()
        self.trust()
        self.send(Welcome(server_mac(secret, self._nonce, message.nonce)))

    def _extend(self, request: Extend) -> None:
        session = request.session
        if self._server.owners.setdefault(session, self) is not self:
            self._deliver(Failed(session, request.number, f"session {session}: belongs to another connection"))
            return
        self._sessions.add(session)
        try:
            self._server.serve(request, self._deliver)
        except ValueError as error:
            self._deliver(Failed(session, request.number, str(error)))

    def _close(self, session: str) -> None:
        if session in self._sessions:  # else it is nobody's, or another connection's and not this one's to close
            self._sessions.remove(session)
            del self._server.owners[session]
            self._server.close(session)

    def _deliver(self, reply: Reply) -> None:
        try:
            self.send(reply)
        except WireError as error:
            self.send(Failed(reply.session, reply.number, f"the reply cannot be sent: {error}"))


def _address(peer: tuple[str, int] | None) -> str:
    """Host and port; the system does not know them any more where the peer left at once."""
    return f"{peer[0]}:{peer[1]}" if peer else "an unknown address"
