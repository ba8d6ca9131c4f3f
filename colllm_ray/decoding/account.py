"""What an answer costs, counted while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from colllm_ray.decoding.model_client import Session


class Account:
    """Counts of one answer, which hold at any time: also where it is given up.

    lost: the experts that failed under it and write no more; guessed: tokens that were guessed before they were known,
    as far as it was found out whether they are right; right: how many of them were.
    """

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self.lost: list[int] = []
        self.guessed = 0
        self.right = 0

    def follow(self, sessions: Sequence[Session], authors: Sequence[int]) -> None:
        """From now on these sessions are counted, each for its author."""
        self._sessions.update(zip(authors, sessions, strict=True))

    def calls(self, authors: int) -> tuple[int, ...]:
        """How many questions each of the models 0.. was asked."""
        return tuple(self._sessions[k].calls if k in self._sessions else 0 for k in range(authors))

    def passes(self, authors: int) -> tuple[int, ...]:
        """How many forward passes each of the models 0.. made for the answer, those of drafts included."""
        return tuple(self._sessions[k].passes if k in self._sessions else 0 for k in range(authors))

    def link_seconds(self, authors: int) -> tuple[float, ...]:
        """For each of the models 0..: how long questions and answers were under way between here and the model."""
        return tuple(self._sessions[k].link_seconds if k in self._sessions else 0.0 for k in range(authors))
