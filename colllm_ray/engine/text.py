"""Texts as lists of token ids: given ones, in batches, and what a model thought of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOT_FINITE = "has a token whose log-prob is not finite; does the model need another `dtype`?"


@dataclass(frozen=True)
class Text:
    """Token ids, and which of them are targets; the first is never one."""

    input_ids: Sequence[int]
    target_mask: Sequence[bool]


@dataclass(frozen=True)
class GoldScores:
    """Of one text's n targets: natural log-probs, and whether each is the model's likeliest token."""

    gold_logprob: tuple[float, ...]
    top1: tuple[bool, ...]


def padded(texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] and the positions whose next token is a target [B, T].

    Padding is on the right, where nothing before it attends to it.
    """
    size = (len(texts), max(len(text.input_ids) for text in texts))
    ids, wanted = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.bool)
    for b, text in enumerate(texts):
        ids[b, : len(text.input_ids)] = torch.tensor(text.input_ids)
        wanted[b, : len(text.target_mask) - 1] = torch.tensor(text.target_mask[1:])
    return ids, wanted


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in batches of texts of similar length: texts times longest is within the budget of tokens.

    The longest come first; one that is over the budget is alone.
    """
    batches: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * longest <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
            longest = lengths[i]
    return batches


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
