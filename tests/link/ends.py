"""The two ends of a link over real sockets; what serves is a function that answers from the request itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec

from colllm_ray.engine.messages import Choice, Deliver, Extend, Extended, Reply
from colllm_ray.link.client import SILENCE_S, LinkConnection
from colllm_ray.link.handshake import client_mac
from colllm_ray.link.server import LinkServer
from colllm_ray.link.wire import Challenge, Message, Proof, decode, encode

HOST = "127.0.0.1"
SECRET = b"a secret of this test"
DEADLINE_S = 10.0

P = ParamSpec("P")


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test that runs in an event loop of its own, where an error that nobody sees is an error of the test."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        unseen: list[dict[str, object]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
            async with asyncio.timeout(DEADLINE_S):
                await test(*args, **kwargs)

        asyncio.run(watched())
        assert not unseen

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Within the deadline of the test."""
    while not condition():
        await asyncio.sleep(0.001)


@dataclass
class Served:
    """A server whose model would write the tokens that it gets; what it is asked while it waits stays unanswered."""

    port: int = 0
    requests: list[tuple[Extend, Deliver]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    waits: bool = False

    def serve(self, request: Extend, deliver: Deliver) -> None:
        self.requests.append((request, deliver))
        if not self.waits:
            for reply in echo(request):
                deliver(reply)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


def echo(request: Extend) -> list[Reply]:
    """The last `want` tokens as choices, then drafts that count on from the last one."""
    tokens, index = request.tokens[len(request.tokens) - request.want :], request.end - request.want + 1
    first = Extended(request.session, request.number, index, tuple(Choice(token, -0.5, (0.0, 1.5)) for token in tokens))
    drafts = (
        Extended(request.session, request.number, request.end + i, (Choice(tokens[-1] + i, -1.0),))
        for i in range(1, request.draft + 1)
    )
    return [first, *drafts]


@asynccontextmanager
async def serving(
    served: Served, secret: bytes = SECRET, handshake_s: float = 5.0, max_unsent: int = 2**24
) -> AsyncIterator[LinkServer]:
    server = LinkServer(served.serve, served.ended.append, secret, handshake_s=handshake_s, max_unsent=max_unsent)
    served.port = await server.start(HOST)
    try:
        yield server
    finally:
        await server.stop()


async def connect(
    served: Served, on_lost: Callable[[], None] | None = None, silence_s: float = SILENCE_S
) -> LinkConnection:
    return await LinkConnection.open(HOST, served.port, SECRET, silence_s=silence_s, on_lost=on_lost)


async def ask(connection: LinkConnection, request: Extend) -> Reply:
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    connection.post(request, answer.set_result)
    return await answer


@dataclass
class Raw:
    """A peer that writes what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, served: Served) -> Raw:
        return cls(*await asyncio.open_connection(HOST, served.port))

    async def read(self) -> Message:
        return decode(await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(4))))

    async def shake_hands(self, secret: bytes = SECRET) -> None:
        challenge = await self.read()
        assert isinstance(challenge, Challenge)
        nonce = bytes(32)
        self.writer.write(encode(Proof(client_mac(secret, challenge.nonce, nonce), nonce)))

    async def closed_by_peer(self) -> None:
        try:
            while await self.reader.read(2**16):
                pass
        except ConnectionError:
            pass
        finally:
            self.writer.close()


@asynccontextmanager
async def impostor(answer: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a server that answers one connection as it likes."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Raw(reader, writer)
        await answer(peer)
        await peer.closed_by_peer()
        ended.set()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()
