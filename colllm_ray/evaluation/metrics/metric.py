"""What every metric can do."""

from __future__ import annotations

from typing import Protocol


class Metric(Protocol):
    """Judges answers by references, in any thread."""

    def check(self, reference: object) -> None:
        """Raises ColllmError for a reference that no answer can be judged by; it says what would be right."""

    def score(self, answer: str, reference: object) -> float:
        """In [0, 1], 1 for an answer that is right; `reference` is one that `check` accepts."""
