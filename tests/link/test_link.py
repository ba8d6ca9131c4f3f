"""Both ends of the link, many sessions at once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from colllm_ray.engine.messages import Behind, Choice, Deliver, Extend, Extended, Failed, Reply
from colllm_ray.link.client import LinkConnection, LinkError
from colllm_ray.link.handshake import client_mac
from colllm_ray.link.server import LinkServer
from colllm_ray.link.wire import Challenge, Proof, decode, encode
from tests.link.ends import HOST, SECRET, Served, ask, connect, echo, in_loop, serving, until

pytestmark = pytest.mark.usefixtures("both_loops")


@in_loop
async def test_a_request_gets_its_reply() -> None:
    async with serving(served := Served()):
        connection = await connect(served)
        request = Extend("s", 4, (10, 11, 12), number=7, want=2)
        expected = Extended("s", 7, 6, (Choice(11, -0.5, (0.0, 1.5)), Choice(12, -0.5, (0.0, 1.5))))
        assert await ask(connection, request) == expected
        assert served.requests[0][0] == request
        await connection.aclose()


@in_loop
async def test_what_is_sent_is_under_way_at_once() -> None:
    """Not only when the loop comes round, which may be after a whole step of a model."""
    served = Served(waits=True)
    loop = asyncio.get_running_loop()
    async with serving(served):
        with socket.create_connection((HOST, served.port)) as peer:
            peer.setblocking(False)
            challenge = decode((await loop.sock_recv(peer, 1000))[4:])
            assert isinstance(challenge, Challenge)
            nonce = bytes(32)
            await loop.sock_sendall(peer, encode(Proof(client_mac(SECRET, challenge.nonce, nonce), nonce)))
            await loop.sock_recv(peer, 1000)
            await loop.sock_sendall(peer, encode(Extend("s", 0, (1,))))
            await until(lambda: bool(served.requests))
            request, deliver = served.requests[0]
            (reply,) = echo(request)
            deliver(reply)
            assert peer.recv(1000) == encode(reply)


@in_loop
async def test_drafts_follow_the_reply() -> None:
    async with serving(served := Served()):
        connection = await connect(served)
        got: list[Reply] = []
        connection.post(Extend("s", 0, (5,), draft=3), got.append)
        assert got == []
        await until(lambda: len(got) == 4)
        assert got == echo(Extend("s", 0, (5,), draft=3))
        await connection.aclose()


@in_loop
async def test_replies_go_to_the_latest_post() -> None:
    served = Served(waits=True)
    async with serving(served) as server:
        connection = await connect(served)
        first: list[Reply] = []
        second: list[Reply] = []
        connection.post(Extend("s", 0, (1,), number=1, draft=3), first.append)
        connection.post(Extend("s", 1, (2,), number=2), second.append)
        await until(lambda: len(served.requests) == 2)
        late = echo(served.requests[0][0])
        for reply in late:
            served.requests[0][1](reply)
        await until(lambda: second == late)
        assert first == []
        await server.stop()  # nothing has answered the second yet
        await until(lambda: len(second) == 5)
        assert second[4] == Failed("s", 2, f"{served.address}: the connection was closed")
        await connection.aclose()


@in_loop
async def test_many_sessions_share_a_connection() -> None:
    async with serving(served := Served()):
        connection = await connect(served)
        requests = [Extend(f"s{i}", i, tuple(range(i, i + 3)), want=3) for i in range(50)]
        for _ in range(3):
            replies = await asyncio.gather(*(ask(connection, request) for request in requests))
            assert list(replies) == [echo(request)[0] for request in requests]
        await connection.aclose()


@in_loop
async def test_a_long_prompt_arrives_whole() -> None:
    async with serving(served := Served()):
        connection = await connect(served)
        request = Extend("s", 0, tuple(range(200_000, 400_000)))
        assert await ask(connection, request) == echo(request)[0]
        assert served.requests[0][0] == request
        await connection.aclose()


@in_loop
async def test_a_closed_session_is_over_for_both_ends() -> None:
    served = Served(waits=True)
    async with serving(served):
        connection = await connect(served)
        got: list[Reply] = []
        connection.post(Extend("s", 0, (1,)), got.append)
        connection.close_session("s")
        connection.close_session("unknown")
        await until(lambda: served.ended == ["s"])
        request, deliver = served.requests[0]
        deliver(echo(request)[0])
        served.waits = False
        await ask(connection, Extend("t", 0, (1,)))
        assert got == []
        await connection.aclose()
        await until(lambda: served.ended == ["s", "t"])


@in_loop
async def test_a_session_belongs_to_one_connection() -> None:
    async with serving(served := Served()):
        owner, other = await connect(served), await connect(served)
        await ask(owner, Extend("s", 0, (1,)))
        assert await ask(other, Extend("s", 0, (1,))) == Failed("s", 0, "session s: belongs to another connection")
        other.close_session("s")
        await ask(other, Extend("t", 0, (1,)))  # so that the close has been seen
        assert served.ended == []
        await owner.aclose()
        await until(lambda: served.ended == ["s"])
        assert await ask(other, Extend("s", 0, (1,))) == echo(Extend("s", 0, (1,)))[0]
        await other.aclose()


@in_loop
async def test_what_serve_refuses_fails() -> None:
    def refuse(request: Extend, _deliver: Deliver) -> None:
        raise ValueError(f"{request.session} has a request under way")

    server = LinkServer(refuse, lambda _session: None, SECRET)
    connection = await LinkConnection.open(HOST, await server.start(HOST), SECRET)
    assert await ask(connection, Extend("s", 0, (1,))) == Failed("s", 0, "s has a request under way")
    await connection.aclose()
    await server.stop()


@in_loop
async def test_what_cannot_be_sent_fails_and_nothing_else() -> None:
    served = Served(waits=True)
    async with serving(served):
        connection = await connect(served)
        too_long = await ask(connection, Extend("s", 0, tuple([2**31 - 1] * 2**20)))
        assert isinstance(too_long, Failed)
        assert too_long.reason.startswith(f"{served.address}: the request cannot be sent: Extend of 52429")
        answer = asyncio.ensure_future(ask(connection, Extend("s", 0, (1,), number=5)))
        await until(lambda: len(served.requests) == 1)
        served.requests[0][1](Extended("s", 5, 1, (Choice(1, float("nan")),)))
        assert await answer == Failed("s", 5, "the reply cannot be sent: logprob: must be a number")
        await connection.aclose()


@in_loop
async def test_a_broken_connection_fails_what_waits_once() -> None:
    served = Served()
    async with serving(served) as server:
        lost: list[str] = []
        connection = await connect(served, lambda: lost.append("lost"))
        got: dict[str, list[Reply]] = {name: [] for name in ("answered", "behind", "waits", "drafts", "closed")}

        def post(name: str, draft: int = 0) -> None:
            connection.post(Extend(name, 0, (1,), number=3, draft=draft), got[name].append)

        post("answered")
        await until(lambda: len(got["answered"]) == 1)
        served.waits = True
        for name in ("behind", "waits", "drafts", "closed"):
            post(name, draft=2 if name in ("behind", "drafts") else 0)
        connection.close_session("closed")
        await until(lambda: served.ended == ["closed"])
        request, deliver = next(each for each in served.requests if each[0].session == "drafts")
        deliver(Behind("behind", 3, 0))
        deliver(echo(request)[0])
        await until(lambda: len(got["drafts"]) == 1)
        await server.stop()
        await until(lambda: connection.closed and bool(lost))
        gone = f"{served.address}: the connection was closed"
        assert got["answered"] == echo(Extend("answered", 0, (1,), number=3))
        assert got["behind"] == [Behind("behind", 3, 0)]
        assert got["waits"] == [Failed("waits", 3, gone)]
        assert got["drafts"][1:] == [Failed("drafts", 3, gone)]
        assert got["closed"] == []
        assert set(served.ended) == set(got)

        post("waits")
        assert len(got["waits"]) == 1
        await until(lambda: len(got["waits"]) == 2)
        assert got["waits"][1] == Failed("waits", 3, gone)
        with pytest.raises(LinkError, match=gone):
            connection.hold("lease")
        connection.close_session("waits")
        connection.release("lease")
        await connection.aclose()
        assert lost == ["lost"]
        deliver(echo(request)[1])  # nobody is there: dropped


@in_loop
async def test_a_peer_that_says_nothing_while_a_reply_is_due_is_given_up() -> None:
    async with serving(served := Served(waits=True)) as server:
        connection = await connect(served, silence_s=0.2)
        answer = asyncio.ensure_future(ask(connection, Extend("s", 0, (1,), number=2)))
        await until(lambda: len(served.requests) == 1)
        (peer,) = server.connections
        peer._transport.pause_reading()
        assert await answer == Failed("s", 2, f"{served.address}: nothing was heard for 0.2 s")


@in_loop
async def test_a_peer_that_works_for_long_is_waited_for() -> None:
    async with serving(served := Served(waits=True)) as server:
        connection = await connect(served, silence_s=0.1)
        answer = asyncio.ensure_future(ask(connection, Extend("s", 0, (1,))))
        await asyncio.sleep(0.5)
        request, deliver = served.requests[0]
        deliver(echo(request)[0])
        assert await answer == echo(request)[0]
        (peer,) = server.connections
        peer._transport.pause_reading()
        await asyncio.sleep(0.5)  # nothing is due: silence is right
        assert not connection.closed
        await connection.aclose()


@in_loop
async def test_a_connection_closed_from_here_is_not_lost() -> None:
    served = Served(waits=True)
    async with serving(served):
        lost: list[str] = []
        got: list[Reply] = []
        connection = await connect(served, lambda: lost.append("lost"))
        connection.post(Extend("s", 0, (1,)), got.append)
        await connection.aclose()
        await connection.aclose()
        assert got == [Failed("s", 0, f"{served.address}: the connection was closed")]
        assert lost == []
        await until(lambda: served.ended == ["s"])  # what was written before the end still arrived
