from __future__ import annotations

import asyncio

import pytest

from colllm_ray.engine.messages import Extend
from colllm_ray.link.client import LinkConnection
from tests.link.ends import Served, ask, connect, in_loop, serving, until

pytestmark = pytest.mark.usefixtures("both_loops")


@in_loop
async def test_a_lease_lasts_until_it_is_released() -> None:
    async with serving(served := Served()) as server:
        connection = await connect(served)
        held = asyncio.ensure_future(server.held("lease"))
        connection.hold("lease")
        connection.hold("other")
        connection.release("other")
        await ask(connection, Extend("s", 0, (1,)))
        assert not held.done()
        await server.held("other")  # held and released before anybody waited
        connection.release("lease")
        connection.release("unknown")
        await held
        assert not connection.closed
        await connection.aclose()


@in_loop
async def test_a_lease_ends_with_its_connection() -> None:
    async with serving(served := Served()) as server:
        connection, other = await connect(served), await connect(served)
        before = asyncio.ensure_future(server.held("before"))
        for lease in ("before", "after"):
            connection.hold(lease)
        other.hold("others")
        others = asyncio.ensure_future(server.held("others"))
        await connection.aclose()
        await before
        await server.held("after")
        assert not others.done()
        await other.aclose()
        await others


@in_loop
async def test_a_lease_that_nobody_holds_is_given_up() -> None:
    async with serving(Served()) as server:
        with pytest.raises(TimeoutError, match=r"lease 'lease': no connection held it within 0.01 s"):
            await server.held("lease", bind_within_s=0.01)


@in_loop
async def test_a_lease_of_another_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(served := Served()) as server:
        owner = await connect(served)
        owner.hold("lease")
        await ask(owner, Extend("s", 0, (1,)))
        held = asyncio.ensure_future(server.held("lease"))
        for breach in (LinkConnection.hold, LinkConnection.release):
            thief = await connect(served)
            breach(thief, "lease")
            await until(lambda thief=thief: thief.closed)  # type: ignore[misc]
        assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
            "lease 'lease': held by another connection",
            "lease 'lease': not held by this connection",
        ]
        assert not held.done()
        await owner.aclose()
        await held
