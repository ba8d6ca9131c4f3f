from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.deferral.calibration import (
    Calibration,
    Candidate,
    base_alone,
    best_of,
    calibrate_on_text,
    thresholds_at_shares,
)
from colllm_ray.deferral.rule import decide
from colllm_ray.errors import ColllmError


def quality_by_hand(scores: torch.Tensor, top1: torch.Tensor, threshold: float) -> tuple[float, float]:
    """Exact match and token accuracy of ten examples of six targets."""
    author, _ = decide(scores, threshold)
    right = [bool(top1[n, int(k)]) for n, k in enumerate(author)]
    return sum(all(right[6 * e : 6 * e + 6]) for e in range(10)) / 10, sum(right) / 60


@given(st.integers(0, 10_000))
def test_candidates_and_the_best_are_those_of_trying_every_threshold(seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.nn.functional.pad(3 * torch.randn(60, 2), (1, 0))
    top1 = torch.rand(60, 3) < 0.8
    calibration = calibrate_on_text(scores, top1, torch.arange(60) // 6, steps=10)
    assert [c.share for c in calibration.candidates] == pytest.approx([i / 10 for i in range(11)])
    for candidate in calibration.candidates:
        author, _ = decide(scores, candidate.threshold)
        assert float((author > 0).float().mean()) == pytest.approx(candidate.share)
        by_hand = quality_by_hand(scores, top1, candidate.threshold)
        assert (candidate.quality, candidate.token_accuracy) == pytest.approx(by_hand)
    _, p_defer = decide(scores, 0.0)
    tried = [quality_by_hand(scores, top1, eta) for eta in [0.0, 1.0, *p_defer.tolist()]]
    assert quality_by_hand(scores, top1, calibration.threshold) == pytest.approx(max(tried))


def test_equal_scores_stay_together() -> None:
    scores = torch.tensor([[0.0, 1.0]]).repeat(4, 1)
    top1 = torch.tensor([[False, True], [False, True], [False, True], [True, False]])
    calibration = calibrate_on_text(scores, top1, torch.arange(4))
    author, _ = decide(scores, calibration.threshold)
    assert author.tolist() == [1, 1, 1, 1]
    assert [(c.share, c.quality) for c in calibration.candidates] == [(0.0, 0.25), (1.0, 0.75)]


def test_the_threshold_lies_between_what_helps_and_what_harms() -> None:
    # Deferring the first 30 helps, deferring the others harms.
    scores = torch.stack([torch.zeros(100), torch.linspace(5, -5, 100)], dim=1)
    top1 = torch.stack([torch.arange(100) >= 30, torch.arange(100) < 30], dim=1)
    calibration = calibrate_on_text(scores, top1, torch.arange(100))
    _, p_defer = decide(scores, 0.0)
    assert p_defer[29] > calibration.threshold > p_defer[30]
    assert max(candidate.quality for candidate in calibration.candidates) == 1


def test_the_base_alone_is_as_right_as_at_frequency_0() -> None:
    torch.manual_seed(0)
    top1, example = torch.rand(60, 3) < 0.8, torch.arange(60) // 6
    scores = torch.nn.functional.pad(torch.randn(60, 2), (1, 0))
    (alone,) = base_alone(top1, example).candidates
    assert (alone.quality, alone.token_accuracy) == pytest.approx(quality_by_hand(scores, top1, 1.0))
    assert alone.share == calibrate_on_text(scores, top1, example).candidates[0].share == 0.0


def test_a_share_of_tokens_is_a_threshold_between_the_candidates() -> None:
    candidates = [Candidate(0.0, 0.9, 0.0, 0.0), Candidate(0.2, 0.6, 0.0, 0.0), Candidate(0.4, 0.2, 0.0, 0.0)]
    calibration = Calibration(0.5, tuple(candidates))
    expected = {0.0: 1.0, 0.1: 0.8, 0.2: 0.6, 0.3: 0.4, 0.4: 0.2, 0.7: 0.1, 1.0: 0.0}
    assert {share: calibration.threshold_for(share) for share in expected} == pytest.approx(expected)
    blind = Calibration(1.0, (Candidate(0.0, 1.0, 0.0, 0.0),))
    assert [blind.threshold_for(share) for share in (0.0, 1.0)] == [1.0, 0.0]
    with pytest.raises(ColllmError, match="knows no thresholds for shares"):
        blind.threshold_for(0.5)


def test_a_share_that_falls_with_the_threshold_is_passed_over() -> None:
    """Of decoded answers, which go on otherwise where another model has written."""
    shares = [(0.9, 0.1), (0.7, 0.3), (0.5, 0.2), (0.3, 0.4)]
    calibration = Calibration(0.5, tuple(Candidate(share, threshold, 0.0) for threshold, share in shares))
    thresholds = [calibration.threshold_for(i / 20) for i in range(21)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert calibration.threshold_for(0.3) == 0.7
    assert calibration.threshold_for(0.35) == pytest.approx(0.5)


def test_the_best_of_decoded_candidates_is_in_the_middle_of_them() -> None:
    qualities = [0.1, 0.9, 0.5, 0.9, 0.9, 0.9, 0.2]
    candidates = [Candidate(i / 10, 1 - i / 10, quality) for i, quality in enumerate(qualities)]
    assert best_of(candidates) == candidates[4]


@given(st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=1, max_size=50), st.integers(1, 20))
def test_thresholds_defer_the_shares_that_are_possible(values: list[float], steps: int) -> None:
    p_defer = torch.tensor(values, dtype=torch.double)
    thresholds = thresholds_at_shares(p_defer, steps)
    assert thresholds == sorted(thresholds, reverse=True)
    shares = [float((p_defer > eta).double().mean()) for eta in thresholds]
    possible = {float((p_defer > eta).double().mean()) for eta in [*values, 0.0, 1.0]}
    for i in range(steps + 1):
        nearest = min(abs(share - i / steps) for share in possible)
        assert min(abs(share - i / steps) for share in shares) == pytest.approx(nearest)
