"""The few numbers of a benchmark that issues, README and docs name, with the noise that was measured beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

Better = Literal["higher", "lower", "neither"]
DIGITS = 5  # that are kept of a value


@dataclass(frozen=True)
class Headline:
    """A number as each run of what it needs gave it, and which way is better.

    Its value is the median of the runs, its spread the distance of the lowest from the highest.
    """

    runs: tuple[float, ...]
    better: Better

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("a headline needs the number of one run at least; it has none")

    @property
    def value(self) -> float:
        return _rounded(median(self.runs))

    @property
    def spread(self) -> float:
        return _rounded(max(self.runs) - min(self.runs))

    def text(self) -> str:
        """Value and spread, for people."""
        if len(self.runs) == 1:
            return f"{self.value:g} (one run)"
        return f"{self.value:g} ({min(self.runs):g} to {max(self.runs):g} in {len(self.runs)} runs)"

    def as_json(self) -> dict[str, object]:
        return {"value": self.value, "spread": self.spread, "better": self.better, "runs": list(self.runs)}

    @classmethod
    def of_json(cls, content: Mapping[str, object]) -> Headline:
        """Raises ValueError where it is none."""
        runs, better = content.get("runs"), content.get("better")
        if not isinstance(runs, list) or not all(isinstance(one, int | float) for one in runs):
            raise ValueError(f"runs: expected a list of numbers, found {runs!r}")
        for known in get_args(Better):
            if better == known:
                return cls(tuple(map(float, runs)), known)
        raise ValueError(f"better: expected one of {', '.join(get_args(Better))}, found {better!r}")


def higher(*runs: float) -> Headline:
    """One that should be high."""
    return _headline(runs, "higher")


def lower(*runs: float) -> Headline:
    """One that should be low."""
    return _headline(runs, "lower")


def neither(*runs: float) -> Headline:
    """One that says what was done, and is not judged."""
    return _headline(runs, "neither")


def _headline(runs: Sequence[float], better: Better) -> Headline:
    return Headline(tuple(map(_rounded, runs)), better)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
