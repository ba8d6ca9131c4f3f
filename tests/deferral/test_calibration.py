from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colllm_ray.deferral.calibration import calibrate
from colllm_ray.deferral.rule import decide


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_candidates_defer_as_often_as_they_say(seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.nn.functional.pad(3 * torch.randn(60, 2), (1, 0))
    top1 = torch.rand(60, 3) < 0.6
    example = torch.arange(60) // 6
    calibration = calibrate(scores, top1, example, steps=10)
    assert [c.frequency for c in calibration.candidates] == pytest.approx([i / 10 for i in range(11)])
    for candidate in calibration.candidates:
        author, _ = decide(scores, candidate.threshold)
        right = [bool(top1[n, int(k)]) for n, k in enumerate(author)]
        whole = [all(right[6 * e : 6 * e + 6]) for e in range(10)]
        assert candidate.token_accuracy == pytest.approx(sum(right) / 60)
        assert candidate.exact_match == pytest.approx(sum(whole) / 10)
    best = max(calibration.candidates, key=lambda c: (c.exact_match, c.token_accuracy))
    chosen = next(c for c in calibration.candidates if c.threshold == calibration.threshold)
    assert (chosen.exact_match, chosen.token_accuracy) == (best.exact_match, best.token_accuracy)


def test_the_threshold_lies_between_what_helps_and_what_harms() -> None:
    # Deferring the first 30 helps, deferring the others harms.
    scores = torch.stack([torch.zeros(100), torch.linspace(5, -5, 100)], dim=1)
    top1 = torch.stack([torch.arange(100) >= 30, torch.arange(100) < 30], dim=1)
    calibration = calibrate(scores, top1, torch.arange(100))
    _, p_defer = decide(scores, 0.0)
    assert p_defer[29] > calibration.threshold > p_defer[30]
    assert max(candidate.exact_match for candidate in calibration.candidates) == 1
