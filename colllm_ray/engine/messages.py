"""What is said to a model that holds sessions, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extend:
    """Take in `tokens`, which begin at position `start` of the session, and say what comes next.

    A session that holds more than `start` tokens is cut back to it; one that holds less answers `Behind`. A session
    that is not known begins empty.
    """

    session: str
    start: int
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.start < 0 or not self.tokens:
            raise ValueError(f"session {self.session}: needs start >= 0 and at least one token")


@dataclass(frozen=True)
class Extended:
    """The model's greedy next token after all that it took in, with its natural log-prob.

    `scores` are s_t of the deferral head, one for each of the K choices; only the base has them.
    """

    token: int
    logprob: float
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Behind:
    """The session holds only `have` tokens: send from there."""

    have: int
