from __future__ import annotations

import pytest

from colllm_ray.engine import kernel_choice
from colllm_ray.engine.kernel_choice import ROWS, KernelChoice, fastest, measured

PLAIN = dict.fromkeys(ROWS, 1.0)
AS_THEY_ARE = {(rows, rows): 0.5 for rows in ROWS}
PADDED = {(rows, 4): 0.5 for rows in (1, 2, 3)}


def test_what_is_as_fast_without_padding_is_not_padded() -> None:
    assert fastest(PLAIN, AS_THEY_ARE | PADDED) == KernelChoice()
    assert fastest(PLAIN, AS_THEY_ARE | PADDED | {(1, 4): 0.48}) == KernelChoice()


def test_few_rows_are_padded_where_more_are_faster() -> None:
    choice = fastest(PLAIN, AS_THEY_ARE | PADDED | {(1, 1): 0.9, (3, 3): 0.8})
    assert [choice.padded(rows) for rows in (1, 2, 3, 4, 9)] == [4, 2, 4, 4, 9]
    assert not choice.plain


def test_torchs_own_way_is_taken_where_it_is_faster() -> None:
    choice = fastest(PLAIN | {1: 0.3}, AS_THEY_ARE | PADDED)
    assert [choice.is_plain(rows) for rows in (0, 1, 2, 5, 40)] == [True, True, False, False, False]
    assert fastest(PLAIN | {8: 0.3}, AS_THEY_ARE | PADDED).is_plain(12)
    assert not fastest(PLAIN | {8: 0.3}, AS_THEY_ARE | PADDED).is_plain(16)


def test_weights_are_held_in_two_orders_only_where_both_are_worth_it() -> None:
    same = dict.fromkeys(AS_THEY_ARE | PADDED, 0.95)
    assert fastest(PLAIN | {1: 0.3}, same).is_all_plain
    assert not fastest(PLAIN, same).is_all_plain


def test_no_way_finds_its_weights_where_the_one_before_left_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's ways follow each other: not only the first of them is to read its weights from memory."""
    now, in_cache = 0.0, ""
    monkeypatch.setattr(kernel_choice, "perf_counter", lambda: now)

    def run(weights: str, seconds: float) -> None:
        nonlocal now, in_cache
        now += seconds if in_cache == weights else 4 * seconds
        in_cache = weights

    choice = measured(
        plain=lambda _: run("plain", 2.0),
        blocked=lambda _, __: run("blocked", 1.0),
        between=lambda: run("others", 10.0),
    )
    assert choice == KernelChoice()
