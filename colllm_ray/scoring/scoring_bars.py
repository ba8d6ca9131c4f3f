"""A bar for each member that scores: tokens of the shards that are done, and of those that are begun."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import ray
from rich.progress import Progress, TaskID

from colllm_ray.progress import repeating
from colllm_ray.scoring.tally import Begun, Tally

if TYPE_CHECKING:
    from ray.actor import ActorProxy

LOOK_EVERY_S = 2.0


class ScoringBars:
    """`tokens` of each shard; `missing`: the shards that each member is to score."""

    def __init__(self, progress: Progress, tokens: Sequence[int], missing: Mapping[str, Sequence[int]]) -> None:
        self._progress, self._tokens = progress, tokens
        self._lock = threading.Lock()
        self._left = {member: sum(tokens[shard] for shard in shards) for member, shards in missing.items()}
        self._scored: dict[Begun, int] = {}  # tokens
        self._done = dict.fromkeys(missing, 0)
        self._began: dict[str, tuple[float, int]] = {}  # when a member's first tokens were told, and how many they were
        total = sum(tokens)
        self._bars: dict[str, TaskID] = {
            member: progress.add_task(f"score {member}", total=total, completed=total - left, note="")
            for member, left in self._left.items()
        }

    def finished(self, at: Begun) -> None:
        """A shard is written."""
        self._set(at, self._tokens[at.shard])

    def told(self, tokens: Mapping[Begun, int]) -> None:
        """So many tokens of shards that are begun are scored."""
        for at, count in tokens.items():
            self._set(at, count)

    @contextmanager
    def following(self, tally: ActorProxy[Tally]) -> Iterator[None]:
        """Shows what the tally says while the body runs."""

        def show() -> None:
            # Where its node is lost, or busy, shards that are done are shown.
            with suppress(ray.exceptions.RayError, TimeoutError):
                self.told(ray.get(tally.tokens.remote(), timeout=LOOK_EVERY_S))

        with repeating(show, LOOK_EVERY_S):
            yield

    def _set(self, at: Begun, tokens: int) -> None:
        """A shard that is scored once more, because its scorer died, does not go back."""
        with self._lock:
            more = max(0, tokens - self._scored.get(at, 0))
            self._scored[at] = self._scored.get(at, 0) + more
            done = self._done[at.member] = self._done[at.member] + more
            began, first = self._began.setdefault(at.member, (time.monotonic(), done))
            rate = (done - first) / max(time.monotonic() - began, 1e-3)
            note = "tokens"
            if rate > 0:
                left = timedelta(seconds=round((self._left[at.member] - done) / rate))
                note = f"tokens, {rate:,.0f} a second, {left} left"
            self._progress.update(self._bars[at.member], advance=more, note=note)
