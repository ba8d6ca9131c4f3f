"""Which session holds which slot of the KV cache, and which tokens lie there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from colllm_ray.engine.text import common_prefix


@dataclass
class Slot:
    """One text's place in the cache; `tokens` is what has been taken in."""

    index: int
    tokens: list[int] = field(default_factory=list)


class SlotTable:
    """Gives slots to sessions.

    A closed session's slot keeps its text until somebody needs the place, so that a session which begins alike (the
    next turn of a chat) finds its prefix there; without `keeps_closed` it is free. Where no slot is free, the least
    recently used closed one makes room, then the least recently used open one.
    """

    def __init__(self, slots: int, keeps_closed: bool) -> None:
        self._free = [Slot(index) for index in reversed(range(slots))]  # the lowest first: a dense batch
        self._closed: list[Slot] = []  # by the time of closing
        self._open: OrderedDict[str, Slot] = OrderedDict()  # by the time of use
        self._keeps_closed = keeps_closed
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._open)

    def get(self, session: str) -> Slot | None:
        """The session's slot, now the most recently used."""
        slot = self._open.get(session)
        if slot is not None:
            self._open.move_to_end(session)
        return slot

    def open(self, session: str, tokens: Sequence[int], busy: Set[str]) -> Slot:
        """A slot for a new session that begins with `tokens`; it may hold a prefix of them already.

        Sessions in `busy` keep theirs; they must be fewer than the slots.
        """
        slot = self._open[session] = self._with_prefix(tokens) or self._empty(busy)
        return slot

    def close(self, session: str) -> None:
        """Gives the slot back; a session that is not known (evicted, never opened) is no error."""
        slot = self._open.pop(session, None)
        if slot is not None:
            if not self._keeps_closed:
                slot.tokens.clear()
            (self._closed if slot.tokens else self._free).append(slot)

    def drop(self, session: str) -> None:
        """Closes a session whose slot holds nobody knows what."""
        slot = self._open.get(session)
        if slot is not None:
            slot.tokens.clear()
            self.close(session)

    def _with_prefix(self, tokens: Sequence[int]) -> Slot | None:
        text = list(tokens)
        shared = [common_prefix(slot.tokens, text) for slot in self._closed]
        if not any(shared):
            return None
        return self._closed.pop(shared.index(max(shared)))

    def _empty(self, busy: Set[str]) -> Slot:
        if self._free:
            return self._free.pop()
        if self._closed:
            slot = self._closed.pop(0)
        else:
            self.evictions += 1
            slot = self._open.pop(next(session for session in self._open if session not in busy))
        slot.tokens.clear()
        return slot
