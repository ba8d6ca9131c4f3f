"""How sure a mean over questions is, and whether two methods differ on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
AT_ONCE = 500  # resamples that are in memory together
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, by bootstrap over questions (Efron, 1979; the percentiles)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference on the same questions; `p` of the two-sided permutation test, which swaps who is who.

    p is the share of swaps that differ as much at least, the one that was seen included.
    """

    p: float


def interval_of(values: Sequence[float]) -> Interval:
    """Of one method's quality on each question."""
    sample = np.asarray(values, float)
    return Interval(float(sample.mean()), *_bootstrap(sample))


def difference_of(values: Sequence[float], others: Sequence[float]) -> Difference:
    """What `values` have more than `others`, question by question."""
    sample = np.asarray(values, float) - np.asarray(others, float)
    rng = np.random.default_rng(0)
    signs = (rng.choice((-1.0, 1.0), (count, len(sample))) for count in _in_parts())
    extreme = sum(int((np.abs(part @ sample) >= np.abs(sample.sum()) - 1e-9).sum()) for part in signs)
    return Difference(float(sample.mean()), *_bootstrap(sample), (1 + extreme) / (1 + RESAMPLES))


def _bootstrap(sample: np.ndarray) -> tuple[float, float]:
    """The bounds between which the means of resamples lie; the same for the same sample."""
    rng = np.random.default_rng(0)
    means = [sample[rng.integers(len(sample), size=(count, len(sample)))].mean(1) for count in _in_parts()]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


def _in_parts() -> Iterator[int]:
    return iter([AT_ONCE] * (RESAMPLES // AT_ONCE))
