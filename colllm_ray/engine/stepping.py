"""What an engine and its front owe to those behind and before them: replicas, their checks and their metrics.

Kept by `Engine` and `Stepper`, and by whatever stands in for one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from colllm_ray.engine.messages import Deliver, Extend, Reply


@dataclass
class StepTimes:
    """What the engine did so far."""

    steps: int = 0
    tokens: int = 0  # taken in
    seconds: float = 0.0  # in steps


class HoldsTexts(Protocol):
    """Something that keeps the texts of sessions, in a limited number of places."""

    @property
    def session_count(self) -> int: ...

    @property
    def evictions(self) -> int:
        """How many open sessions had to make room so far."""


class StepsTexts(HoldsTexts, Protocol):
    """What a `Stepper` calls: one step over several sessions."""

    @property
    def sessions(self) -> int:
        """The most that one step takes."""

    @property
    def context(self) -> int:
        """The most tokens of a text."""

    def extend(self, requests: Sequence[Extend]) -> list[Reply]: ...

    def close(self, session: str) -> None: ...


class ServesTexts(Protocol):
    """What a replica holds: it answers requests, and reports how its engine does."""

    @property
    def engine(self) -> HoldsTexts: ...

    @property
    def times(self) -> StepTimes: ...

    @property
    def failed_sessions(self) -> Collection[str]:
        """Of the steps since the last one that went well."""

    def post(self, request: Extend, deliver: Deliver) -> None: ...

    def close_session(self, session: str) -> None: ...
