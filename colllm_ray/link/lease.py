"""Leases: for how long somebody at the other end of a connection needs this replica."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from colllm_ray.link.fields import WireError

REMEMBERED_S = 60.0  # a lease that ended before anybody waited for its end


@dataclass(eq=False)
class _Lease:
    owner: object | None = None  # the connection that holds it
    is_awaited: bool = False
    bound: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Leases:
    """Each is held once, by one connection; `hold` may come before or after somebody waits in `held`."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}

    def hold(self, name: str, owner: object) -> None:
        lease = self._leases.setdefault(name, _Lease())
        if lease.owner is None:
            lease.owner = owner
            lease.bound.set()
        elif lease.owner is not owner:
            raise WireError(f"lease {name!r}: held by another connection")

    def release(self, name: str, owner: object) -> None:
        """Ends the lease; one that is not known has ended already, such as where who waited for it gave up."""
        lease = self._leases.get(name)
        if lease is None:
            return
        if lease.owner is not owner:
            raise WireError(f"lease {name!r}: not held by this connection")
        self._end(name, lease)

    def release_all(self, owner: object) -> None:
        """Ends what the connection held."""
        for name, lease in self._leases.items():
            if lease.owner is owner:
                self._end(name, lease)

    async def held(self, name: str, bind_within_s: float) -> None:
        """Returns when the lease has ended; raises TimeoutError where no connection holds it in time."""
        lease = self._leases.setdefault(name, _Lease())
        lease.is_awaited = True
        try:
            async with asyncio.timeout(bind_within_s):
                await lease.bound.wait()
            await lease.ended.wait()
        except TimeoutError:
            raise TimeoutError(f"lease {name!r}: no connection held it within {bind_within_s:g} s") from None
        finally:
            self._forget(name, lease)

    def _end(self, name: str, lease: _Lease) -> None:
        lease.ended.set()
        if not lease.is_awaited:
            asyncio.get_running_loop().call_later(REMEMBERED_S, self._forget, name, lease)

    def _forget(self, name: str, lease: _Lease) -> None:
        if self._leases.get(name) is lease:
            del self._leases[name]
