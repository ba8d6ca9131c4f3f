"""What followed the same few tokens in the answers of late: a source of guesses that costs no model anything."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

CONTEXT = 3  # tokens that must be alike
MOST = 200_000  # contexts kept: some 50 MB


class Memory:
    """Remembers the base's tokens by the tokens before them; a newer text overwrites an older one.

    It only ever proposes: the base confirms each guess, so that no answer depends on what others have asked.
    """

    def __init__(self) -> None:
        self._next: OrderedDict[tuple[int, ...], int] = OrderedDict()

    def recall(self, text: Sequence[int], index: int) -> int | None:
        """What followed the tokens before `index`, when they were last seen."""
        return self._next.get(tuple(text[max(0, index - CONTEXT) : index]))

    def learn(self, text: Sequence[int], index: int) -> None:
        """Keeps the token at `index` for the next time."""
        context = tuple(text[max(0, index - CONTEXT) : index])
        self._next[context] = text[index]
        self._next.move_to_end(context)
        if len(self._next) > MOST:
            self._next.popitem(last=False)
