from __future__ import annotations

import pytest

from colllm_ray.decoding import memory
from colllm_ray.decoding.memory import Memory


def learned(text: list[int]) -> Memory:
    known = Memory()
    for index in range(1, len(text)):
        known.learn(text, index)
    return known


def test_what_followed_the_same_tokens_is_recalled() -> None:
    known = learned([1, 2, 3, 4, 5])
    assert known.recall([9, 9, 2, 3, 4], 5) == 5
    assert known.recall([9, 9, 3, 4], 4) is None
    assert known.recall([1], 1) == 2


def test_the_newest_text_is_believed() -> None:
    known = learned([1, 2, 3, 4])
    known.learn([1, 2, 3, 7], 3)
    assert known.recall([1, 2, 3], 3) == 7


def test_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", 2)
    known = learned([1, 2, 3, 4])
    assert known.recall([1], 1) is None
    assert known.recall([1, 2], 2) == 3
    assert known.recall([1, 2, 3], 3) == 4
