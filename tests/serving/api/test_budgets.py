"""Budgets against models whose tokens defer otherwise than the calibration says."""

from __future__ import annotations

import random
from collections import deque

import pytest

from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.budgets import Budgets

# On the validation data d_t was even: the threshold 1 - f defers the share f.
EVEN = Calibration(0.5, tuple(Candidate(i / 20, 1 - i / 20, 0.0) for i in range(21)))


def realised(budgets: Budgets, share: float, skew: float, at_once: int = 1, length: int = 20) -> float:
    """The share of deferrals of 320 answers whose d_t is u ** skew, u even; so many are always under way."""
    rng = random.Random(0)
    tokens = deferrals = 0
    under_way: deque[float] = deque()
    for begun in range(320 + at_once):
        if begun < 320:
            budgets.begin(share)
            under_way.append(budgets.eta(share))
        if begun >= at_once:
            eta, size = under_way.popleft(), rng.randint(1, 2 * length)
            deferred = sum(rng.random() ** skew > eta for _ in range(size))
            budgets.end(share, size, deferred)
            tokens, deferrals = tokens + size, deferrals + deferred
    return deferrals / tokens


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("skew", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("at_once", "length"), [(1, 20), (16, 20), (4, 300)])
def test_what_is_written_keeps_to_the_budget(share: float, skew: float, at_once: int, length: int) -> None:
    assert realised(Budgets(EVEN), share, skew, at_once, length) == pytest.approx(share, abs=0.02)


def test_each_budget_has_its_own_account() -> None:
    budgets = Budgets(EVEN)
    realised(budgets, 0.3, skew=3.0)
    assert budgets.eta(0.3) < 0.7
    assert budgets.eta(0.1) == pytest.approx(0.9)
    assert (budgets.eta(0.0), budgets.eta(1.0)) == (1.0, 0.0)


def test_a_budget_that_cannot_be_spent_does_not_pile_up() -> None:
    budgets = Budgets(EVEN)
    for deferrals, answers in ((0, 1000), (20, 80)):
        for _ in range(answers):
            budgets.begin(0.5)
            budgets.end(0.5, 20, deferrals)
        assert budgets.eta(0.5) == pytest.approx(0.0 if deferrals == 0 else 1.0, abs=0.1)


def test_a_calibration_without_shares_has_no_budgets() -> None:
    budgets = Budgets(Calibration(1.0, (Candidate(0.0, 1.0, 0.5),)))
    assert budgets.eta(0.0) == 1.0
    with pytest.raises(ColllmError, match="knows no thresholds for shares"):
        budgets.eta(0.5)
