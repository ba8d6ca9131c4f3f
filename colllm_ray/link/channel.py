"""One end of a connection: messages in and out, until it ends, once, for one reason."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

from colllm_ray.link.fields import WireError
from colllm_ray.link.wire import MAX_MESSAGE, Decoder, Message, encode

MAX_UNSENT = 16 * 2**20  # bytes that the peer has not read yet
PEER_TIMEOUT_S = 15  # a machine that vanished says nothing: how long until the system gives it up
FLUSH_S = 1.0


class Channel(asyncio.Protocol):
    """What both ends have in common; a subclass says what to do with a message, and what when it is lost."""

    def __init__(self, max_unsent: int = MAX_UNSENT) -> None:
        self._decoder = Decoder()
        self._max_unsent = max_unsent
        self._fault: str | None = None
        self.is_trusted = False  # whether the peer has proved that it knows the secret
        self._gone = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    def trust(self) -> None:
        """From the next message on the peer may say all that there is."""
        self.is_trusted = True
        self._decoder.limit = MAX_MESSAGE

    def received(self, message: Message) -> None:
        """Raises WireError for a message that has no place here; the connection ends then."""
        raise NotImplementedError

    def lost(self, fault: str | None) -> None:
        """Called once; `fault` says what went wrong, None where one of the ends just closed."""
        raise NotImplementedError

    def send(self, message: Message) -> None:
        """Writes at once; to a connection that has ended, nothing.

        Raises WireError for a message that cannot be sent; the connection goes on then.
        """
        frame = encode(message)
        if self.closed:
            return
        self._transport.write(frame)
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._max_unsent:
            self.fail(f"the peer does not read: {unsent} bytes wait for it")

    def fail(self, fault: str) -> None:
        """Ends the connection, now; `lost` is called later in the loop."""
        if not self.closed:
            self._fault = fault
            self._transport.abort()

    async def aclose(self) -> None:
        """Ends the connection from this side; what was written still goes out if the peer reads it soon."""
        self._transport.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._gone), FLUSH_S)
        except TimeoutError:
            self._transport.abort()
            await self._gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's, which Ray uses, inherits from nothing
        _tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self.received(message)
                if self.closed:
                    return
        except WireError as error:
            self.fail(str(error))

    def eof_received(self) -> None:
        if self._decoder.is_within_message:
            self.fail("the stream ended within a message")
        self._transport.abort()  # nobody is left who would read what is still unsent

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set_result(None)
        self.lost(self._fault or (str(error) or repr(error) if error else None))


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PEER_TIMEOUT_S // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PEER_TIMEOUT_S // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_TIMEOUT_S * 1000)
