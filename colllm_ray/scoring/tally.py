"""How far scorers are with the shards that they are at, while Ray Data tells only of those that are done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from colllm_ray.ray_sayings import ABOUT_CONSTRUCTORS, leaving_out

if TYPE_CHECKING:
    from ray.actor import ActorProxy

TELL_EVERY_S = 1.0


@dataclass(frozen=True)
class Begun:
    """A shard that a member is at."""

    member: str
    shard: int


class Tally:
    """Tokens that are scored, of each shard that is not done."""

    def __init__(self, tokens: dict[Begun, int]) -> None:
        self._tokens = tokens

    def set(self, at: Begun, tokens: int) -> None:
        self._tokens[at] = tokens

    def done(self, at: Begun) -> None:
        self._tokens.pop(at, None)

    def tokens(self) -> dict[Begun, int]:
        return self._tokens


def start_tally() -> ActorProxy[Tally]:
    """An actor for as long as it is referred to; should its node die, only whole shards are told of."""
    # The first actor of a process that may start again, and has a constructor's argument in the object store, makes Ray
    # warn that the argument may be gone by then. Ray Data's actors are such, and it keeps theirs; this one comes first.
    with leaving_out(ABOUT_CONSTRUCTORS):
        return ray.remote(num_cpus=0, max_restarts=1)(Tally).remote(ray.put({}))


class ShardProgress:
    """Tells a tally of one shard, now and then."""

    def __init__(self, tally: ActorProxy[Tally], at: Begun) -> None:
        self._tally, self._at = tally, at
        self._tokens, self._told = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self._tokens += tokens
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._told = time.monotonic()
            self._tally.set.remote(self._at, self._tokens)

    def done(self) -> None:
        self._tally.done.remote(self._at)
