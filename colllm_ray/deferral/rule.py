"""The decision rule of decoding: who writes token t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def decide(scores: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The author and d = 1 - P(Z = 0) for each row: s [N, K] -> ([N] in 0..M, [N]) (paper, section 3.3).

    Where d > eta the likeliest expert writes, else the base does; eta = 1 is the base alone.
    """
    p = torch.softmax(scores, dim=-1)
    p_defer = p[:, 1:].sum(dim=-1)  # not 1 - p[:, 0], which rounds small values away
    author = torch.where(p_defer > eta, 1 + p[:, 1:].argmax(dim=-1), 0)
    return author, p_defer


def decide_one(scores: Sequence[float], eta: float) -> tuple[int, float]:
    """`decide` for one token, without the fixed cost of five tensor operations."""
    experts = expert_probabilities(scores)
    p_defer = sum(experts)
    return (1 + experts.index(max(experts)) if p_defer > eta else 0), p_defer


def expert_probabilities(scores: Sequence[float]) -> list[float]:
    """P(Z = k) of the experts k = 1..M: s [K] -> [M]."""
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights[1:]]
