"""Texts as lists of token ids."""

from __future__ import annotations

from collections.abc import Sequence


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts of one sequence type begin with alike."""
    alike, unknown = 0, min(len(a), len(b))
    if a[:unknown] == b[:unknown]:
        return unknown
    while alike < unknown:  # bisected, because comparing slices is much faster than comparing items
        middle = (alike + unknown + 1) // 2
        if a[alike:middle] == b[alike:middle]:
            alike = middle
        else:
            unknown = middle - 1
    return alike
