"""Against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from colllm_ray.evaluation.statistics import difference_of, interval_of


@pytest.mark.parametrize(("questions", "share"), [(40, 0.5), (150, 0.96), (700, 0.1)])
def test_the_interval_is_the_bootstraps(questions: int, share: float) -> None:
    values = np.random.default_rng(1).random(questions) < share
    interval = interval_of(values.astype(float).tolist())
    expected = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
    assert interval.mean == values.mean()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1.5 / questions)


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.2])
def test_the_difference_is_that_of_pairs(gain: float) -> None:
    rng = np.random.default_rng(3)
    one = (rng.random(200) < 0.5).astype(float)
    other = np.where(rng.random(200) < 0.1 + gain, 1.0, one)
    difference = difference_of(other.tolist(), one.tolist())
    test = stats.permutation_test(
        (other, one), lambda a, b: np.mean(a) - np.mean(b), permutation_type="samples", n_resamples=10_000, rng=4
    )
    assert difference.mean == pytest.approx(np.mean(other - one))
    assert difference.p == pytest.approx(test.pvalue, abs=0.02)
    assert difference.low <= difference.mean <= difference.high


def test_equal_methods_do_not_differ() -> None:
    difference = difference_of([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (difference.mean, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)
