"""Peers that break the protocol, on purpose or not: refused, and nobody else disturbed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colllm_ray.engine.messages import Behind, Extend, Failed
from colllm_ray.link.client import LinkConnection, LinkError
from colllm_ray.link.wire import Challenge, Close, Hold, Proof, Welcome, encode
from tests.link.ends import HOST, SECRET, Raw, Served, ask, connect, echo, impostor, in_loop, serving, until

pytestmark = pytest.mark.usefixtures("both_loops")


async def _nothing(peer: Raw) -> None:
    await peer.read()


async def _garbage(peer: Raw) -> None:
    peer.writer.write(b"\0\0\0\x08GET / HT")


async def _http(peer: Raw) -> None:
    peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")


async def _oversize_at_first(peer: Raw) -> None:
    peer.writer.write((257).to_bytes(4))


async def _wrong_secret(peer: Raw) -> None:
    await peer.shake_hands(b"another secret")


async def _no_proof(peer: Raw) -> None:
    peer.writer.write(encode(Extend("victim", 0, (1,))))


async def _leaves(peer: Raw) -> None:
    await peer.read()
    peer.writer.write_eof()


async def _garbage_after_welcome(peer: Raw) -> None:
    await peer.shake_hands()
    assert isinstance(await peer.read(), Welcome)
    peer.writer.write(b"\0\0\0\1\xc1")


async def _oversize_after_welcome(peer: Raw) -> None:
    await peer.shake_hands()
    peer.writer.write((2**22 + 1).to_bytes(4))


async def _half(peer: Raw) -> None:
    await peer.shake_hands()
    peer.writer.write(encode(Extend("half", 0, (1,) * 100))[:-1])
    peer.writer.write_eof()


async def _reply(peer: Raw) -> None:
    await peer.shake_hands()
    peer.writer.write(encode(Close("half")) + encode(Behind("half", 1, 1)))


async def _two_proofs(peer: Raw) -> None:
    await peer.shake_hands()
    peer.writer.write(encode(Proof(bytes(32), bytes(32))))


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (_nothing, "no proof of the secret within 0.1 s"),
        (_garbage, "not a message: "),
        (_http, "a message of 1195725856 bytes: at most 256 are taken"),
        (_oversize_at_first, "a message of 257 bytes: at most 256 are taken"),
        (_wrong_secret, "wrong proof: the peer does not know the secret"),
        (_no_proof, "Extend before any proof of the secret"),
        (_leaves, "closed before any proof of the secret"),
        (_garbage_after_welcome, "not a message: "),
        (_oversize_after_welcome, "a message of 4194305 bytes: at most 4194304 are taken"),
        (_half, "the stream ended within a message"),
        (_reply, "Behind: not what a client says now"),
        (_two_proofs, "Proof: not what a client says now"),
    ],
)
@in_loop
async def test_a_peer_that_breaks_the_protocol_is_refused_alone(
    attack: Callable[[Raw], Awaitable[None]], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(served := Served(), handshake_s=0.1) as server:
        connection = await connect(served)
        await ask(connection, Extend("victim", 0, (1,)))
        peer = await Raw.connect(served)
        peer_name = "{}:{}".format(*peer.writer.get_extra_info("sockname"))
        await attack(peer)
        await peer.closed_by_peer()
        await until(lambda: len(server.connections) == 1)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(f"connection from {peer_name} ended: {reason}")
        request = Extend("victim", 1, (2, 3), want=2)
        assert await ask(connection, request) == echo(request)[0]
        assert served.ended == []
        await connection.aclose()
    assert len(caplog.records) == 1


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=300), st.booleans())
@in_loop
async def test_no_garbage_disturbs_the_server(garbage: bytes, knows_the_secret: bool) -> None:
    async with serving(served := Served()):
        connection, peer = await connect(served), await Raw.connect(served)
        if knows_the_secret:
            await peer.shake_hands()
        peer.writer.write(garbage)
        peer.writer.write_eof()
        await peer.closed_by_peer()
        request = Extend("s", 0, (1,))
        assert await ask(connection, request) == echo(request)[0]
        await connection.aclose()


@in_loop
async def test_a_peer_that_does_not_read_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    served = Served(waits=True)
    async with serving(served, max_unsent=2**20) as server:
        peer = await Raw.connect(served)
        await peer.shake_hands()
        assert isinstance(await peer.read(), Welcome)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.writer.write(encode(Hold("lease")) + encode(Extend("s", 0, (1,))))
        await until(lambda: len(served.requests) == 1)
        while server.connections:
            served.requests[0][1](Failed("s", 0, "a long reason" * 2**14))
            await asyncio.sleep(0)
        await server.held("lease")
        (record,) = caplog.records
        assert " ended: the peer does not read: " in record.getMessage()
        assert served.ended == ["s"]
        peer.writer.transport.abort()


@in_loop
async def test_a_client_without_the_secret_gets_in_nowhere() -> None:
    async with serving(served := Served()):
        with pytest.raises(LinkError, match=f"{served.address}: .*(reset|is the secret the same)"):
            await LinkConnection.open(HOST, served.port, b"another secret")


@in_loop
async def test_a_server_without_the_secret_is_refused() -> None:
    async def guess(peer: Raw) -> None:
        peer.writer.write(encode(Challenge(bytes(32))))
        proof = await peer.read()
        assert isinstance(proof, Proof)
        peer.writer.write(encode(Welcome(proof.mac)))  # the best that it has: the client's own

    async with impostor(guess) as port:
        with pytest.raises(LinkError, match=f"{HOST}:{port}: wrong proof: the server does not know the secret"):
            await LinkConnection.open(HOST, port, SECRET)


@in_loop
async def test_a_server_that_welcomes_at_once_is_refused() -> None:
    async def welcome(peer: Raw) -> None:
        peer.writer.write(encode(Welcome(bytes(32))))

    async with impostor(welcome) as port:
        with pytest.raises(LinkError, match=f"{HOST}:{port}: Welcome: not what a server says now"):
            await LinkConnection.open(HOST, port, SECRET)


@in_loop
async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def wait(_peer: Raw) -> None:
        pass

    async with impostor(wait) as port:
        with pytest.raises(LinkError, match=f"{HOST}:{port}: no handshake within 0.05 s"):
            await LinkConnection.open(HOST, port, SECRET, timeout_s=0.05)


@in_loop
async def test_nobody_at_the_port_is_said() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind((HOST, 0))
        port = bound.getsockname()[1]
        with pytest.raises(LinkError, match=f"{HOST}:{port}: .*(Connect call failed|Connection refused)"):
            await LinkConnection.open(HOST, port, SECRET)
