"""The router's end: many sessions of one expert replica over one connection."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from colllm_ray.engine.messages import Behind, Deliver, Extend, Extended, Failed
from colllm_ray.link.channel import Channel
from colllm_ray.link.fields import WireError
from colllm_ray.link.handshake import client_mac, new_nonce, server_mac
from colllm_ray.link.wire import Challenge, Close, Hold, Message, Ping, Pong, Proof, Release, Welcome

SILENCE_S = 10.0
LOOKS = 4  # at whether anything was heard, within the time after which a silent peer is given up


class LinkError(ConnectionError):
    """A replica that cannot be reached, or that does not know the secret; names its address and the reason."""


@dataclass(slots=True)
class _Session:
    deliver: Deliver
    number: int  # of its latest request, which took the place of the others
    due: int  # replies that may still come to it, at most


class LinkConnection(Channel):
    """Made by `open`. Not safe for threads: to be used in the loop that opened it, which also delivers."""

    def __init__(self, address: str, secret: bytes, silence_s: float, on_lost: Callable[[], None] | None) -> None:
        super().__init__()
        self._address = address
        self._secret = secret
        self._silence_s = silence_s
        self._silent_looks = 0
        self._looking: asyncio.TimerHandle | None = None
        self._on_lost = on_lost
        self._sessions: dict[str, _Session] = {}
        self._expected_mac: bytes | None = None
        self._handshake: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()  # what went wrong
        self._ending = f"{address}: the connection was closed"

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        secret: bytes,
        timeout_s: float = 5.0,
        silence_s: float = SILENCE_S,
        on_lost: Callable[[], None] | None = None,
    ) -> LinkConnection:
        """Connects, and returns when both ends have proved that they know the secret; raises LinkError.

        The connection breaks where nothing is heard for `silence_s` while a reply is due: the peer, unless it hangs,
        says between two of its steps that it is there. `on_lost` is called once, when the connection breaks, before its
        sessions are told; not where `aclose` ends it.
        """
        connection = cls(f"{host}:{port}", secret, silence_s, on_lost)
        transport: asyncio.Transport | None = None
        problem: str | None = "given up"
        try:
            async with asyncio.timeout(timeout_s):
                transport, _ = await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                problem = await connection._handshake
        except TimeoutError:
            problem = f"no handshake within {timeout_s:g} s"
        except OSError as error:
            problem = str(error)
        finally:
            if problem is not None and transport is not None:
                connection._on_lost = None
                transport.abort()
        if problem is not None:
            raise LinkError(f"{host}:{port}: {problem}")
        return connection

    def post(self, request: Extend, deliver: Deliver) -> None:
        """Sends the request; from now on `deliver` gets the session's replies, but none before this returns.

        Replies to older requests that were under way come too. When the connection breaks, each session whose latest
        request may still get a reply gets one Failed; a request that cannot be sent gets one too.
        """
        if self.closed:
            self._refuse(request, deliver, self._ending)
            return
        try:
            self.send(request)
        except WireError as error:
            self._refuse(request, deliver, f"{self._address}: the request cannot be sent: {error}")
            return
        self._sessions[request.session] = _Session(deliver, request.number, 1 + request.draft)
        if self._looking is None:
            self._silent_looks = 0
            self._look_later()

    def close_session(self, name: str) -> None:
        """Ends a session; nothing of it is delivered any more."""
        if self._sessions.pop(name, None) is not None:
            self.send(Close(name))

    def hold(self, lease: str) -> None:
        """Lets the lease, a name that is used once, live until `release` or the connection's end; raises LinkError."""
        if self.closed:
            raise LinkError(self._ending)
        self.send(Hold(lease))

    def release(self, lease: str) -> None:
        """Ends the lease; where the connection has ended, so has the lease."""
        self.send(Release(lease))

    async def aclose(self) -> None:
        """Ends the connection, its leases and its sessions."""
        self._on_lost = None
        await super().aclose()

    def received(self, message: Message) -> None:
        self._silent_looks = 0
        match message:
            case Pong() if self.is_trusted:
                pass
            case Extended() | Behind() | Failed() if self.is_trusted:
                session = self._sessions.get(message.session)
                if session is not None:  # else it was closed while the reply was under way
                    if message.number == session.number:
                        session.due = session.due - 1 if isinstance(message, Extended) else 0
                    session.deliver(message)
            case Challenge(nonce=nonce) if self._expected_mac is None:
                own_nonce = new_nonce()
                self._expected_mac = server_mac(self._secret, nonce, own_nonce)
                self.send(Proof(client_mac(self._secret, nonce, own_nonce), own_nonce))
            case Welcome(mac=mac) if self._expected_mac is not None and not self.is_trusted:
                if not hmac.compare_digest(mac, self._expected_mac):
                    raise WireError("wrong proof: the server does not know the secret")
                self.trust()
                if not self._handshake.done():
                    self._handshake.set_result(None)
            case _:
                raise WireError(f"{type(message).__name__}: not what a server says now")

    def lost(self, fault: str | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if not self.is_trusted:
            if not self._handshake.done():
                self._handshake.set_result(fault or "closed during the handshake; is the secret the same?")
            return
        if fault is not None:
            self._ending = f"{self._address}: {fault}"
        if self._on_lost is not None:
            self._on_lost()
        sessions, self._sessions = self._sessions, {}
        for name, session in sessions.items():
            if session.due > 0:
                session.deliver(Failed(name, session.number, self._ending))

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._silence_s / LOOKS, self._look)

    def _look(self) -> None:
        """Gives the peer up after several looks rather than a time: this loop may have been busy for as long itself."""
        self._looking = None
        if self.closed or not any(session.due > 0 for session in self._sessions.values()):
            return
        self._silent_looks += 1
        if self._silent_looks == LOOKS:
            self.fail(f"nothing was heard for {self._silence_s:g} s")
            return
        self.send(Ping())
        self._look_later()

    def _refuse(self, request: Extend, deliver: Deliver, reason: str) -> None:
        asyncio.get_running_loop().call_soon(deliver, Failed(request.session, request.number, reason))
