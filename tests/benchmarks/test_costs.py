from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.costs import COUNTS, CostMeter, StepCosts, sequential_ideal
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from tests.conftest import CONTEXT


@pytest.mark.parametrize(("tokens", "cost"), [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (6, 5.0), (8, 6.0), (16, 10.0)])
def test_costs_lie_on_lines_between_what_was_measured_and_beyond(tokens: int, cost: float) -> None:
    assert StepCosts({1: 1.0, 2: 2.0, 4: 4.0, 8: 6.0}).of(tokens) == pytest.approx(cost)


def test_the_ideal_counts_each_forward_pass_of_the_plain_loop() -> None:
    base, expert = StepCosts({1: 1.0, 2: 2.0}), StepCosts({1: 10.0, 2: 20.0})
    written = [WrittenToken(5, author, 0.0, 0.0) for author in (0, 1, 1, 0, 1)]
    # The base takes 3 tokens of the prompt in, then 1 at a time; the expert 4 (prompt and first token), 1, and 2.
    assert sequential_ideal([base, expert], 3, written) == pytest.approx((3 + 4, 40 + 10 + 20))


def test_a_meter_leaves_an_engine_as_it_was(language_model: Callable[[str], LanguageModel]) -> None:
    engine = Engine(language_model("llama"), 2, CONTEXT)
    meter = CostMeter(engine, at=8)
    meter.sample()
    costs = meter.costs()
    assert list(costs.by_tokens) == sorted(tokens for tokens in set(COUNTS) if 8 + tokens <= CONTEXT)
    assert all(0 < seconds < 10 for seconds in costs.by_tokens.values())
    assert engine.session_count == 0
