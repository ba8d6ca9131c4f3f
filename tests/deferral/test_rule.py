from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.deferral.rule import decide, decide_one


@given(st.lists(st.floats(-15, 15), min_size=1, max_size=5), st.floats(0, 1))
def test_the_likeliest_expert_writes_above_the_threshold(experts: list[float], eta: float) -> None:
    s = [0.0, *experts]
    total = sum(math.exp(score) for score in s)
    author, p_defer = decide(torch.tensor([s], dtype=torch.float64), eta)
    assert float(p_defer) == pytest.approx(1 - 1 / total, abs=1e-9)
    if abs(float(p_defer) - eta) > 1e-9:
        assert (int(author) > 0) == (1 - 1 / total > eta)
    if int(author) > 0:
        assert experts[int(author) - 1] == pytest.approx(max(experts), abs=1e-9)


@given(st.lists(st.floats(-15, 15), min_size=1, max_size=5), st.floats(0, 1))
def test_one_token_is_decided_as_many_are(experts: list[float], eta: float) -> None:
    s = [0.0, *experts]
    author, p_defer = decide(torch.tensor([s], dtype=torch.float64), eta)
    one_author, one_p_defer = decide_one(s, eta)
    assert one_p_defer == pytest.approx(float(p_defer), abs=1e-12)
    if abs(one_p_defer - eta) > 1e-9 and sorted(experts)[-2:] != [max(experts)] * 2:
        assert one_author == int(author)


def test_a_threshold_of_one_is_the_base_alone() -> None:
    author, p_defer = decide(torch.tensor([[0.0, 1e4]]), 1.0)
    assert (int(author), float(p_defer)) == (0, 1.0)


def test_a_threshold_of_zero_is_the_experts_alone() -> None:
    author, _ = decide(torch.tensor([[0.0, -30.0, -40.0]]), 0.0)
    assert int(author) == 1


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=6), st.sets(st.integers(1, 6)))
def test_masked_experts_do_not_write_and_nobody_defers_at_a_threshold_of_one(s: list[float], masked: set[int]) -> None:
    assert decide_one(s, 1.0)[0] == 0
    author, p_defer = decide_one(s, 0.0, masked)
    assert author not in masked
    left = [score for k, score in enumerate(s) if k not in masked]
    assert p_defer == pytest.approx(decide_one(left, 0.0)[1], abs=1e-12)
    assert 0 <= p_defer <= 1
