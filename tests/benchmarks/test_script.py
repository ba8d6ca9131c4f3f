from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.script import Script

SOME = Script(frequency=0.3, agreement=0.9, experts=4, seed=7, spread=True, low=260, high=8192)
INDICES = range(4000)


def changed(**fields: Any) -> Script:
    return Script(**{**asdict(SOME), **fields})


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_defers_and_agrees_at_the_shares_asked_for(share: float) -> None:
    script = changed(frequency=share, agreement=share)
    assert sum(script.author(i) > 0 for i in INDICES) / len(INDICES) == pytest.approx(share, abs=0.02)
    assert sum(script.agrees(i) for i in INDICES) / len(INDICES) == pytest.approx(share, abs=0.02)


def test_deferrals_go_to_expert_1_or_evenly_to_all() -> None:
    assert {changed(spread=False).author(i) for i in INDICES} == {0, 1}
    authors = [SOME.author(i) for i in INDICES]
    for expert in (1, 2, 3, 4):
        assert authors.count(expert) / len(INDICES) == pytest.approx(0.3 / 4, abs=0.02)


def test_base_and_experts_choose_the_same_token_where_the_script_agrees_and_nowhere_else() -> None:
    narrow = changed(agreement=0.5, low=10, high=13)
    for script in (SOME, narrow, changed(low=5, high=7)):
        for i in INDICES:
            base = script.token(i, 0)
            for expert in (1, 4):
                assert (script.token(i, expert) == base) == script.agrees(i)
                assert script.low <= script.token(i, expert) < script.high
    assert {narrow.token(i, author) for i in INDICES for author in (0, 1)} == {10, 11, 12}


def test_agreement_does_not_hang_on_who_writes() -> None:
    deferred = [i for i in INDICES if SOME.author(i)]
    assert sum(SOME.agrees(i) for i in deferred) / len(deferred) == pytest.approx(0.9, abs=0.03)


def test_is_the_same_in_another_process() -> None:
    program = (
        f"from benchmarks.script import Script\ns = {SOME!r}\nprint([(s.author(i), s.token(i, 2)) for i in range(99)])"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([(SOME.author(i), SOME.token(i, 2)) for i in range(99)])
    assert [changed(seed=8).token(i, 0) for i in range(99)] != [SOME.token(i, 0) for i in range(99)]


@pytest.mark.parametrize("fields", [{"frequency": 1.1}, {"agreement": -0.1}, {"experts": 0}, {"low": 5, "high": 6}])
def test_refuses_what_no_script_can_be(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"share|expert|two tokens"):
        changed(**fields)
