"""The decision rule of decoding: who writes token t."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

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


def decide_one(scores: Sequence[float], eta: float, masked: Set[int] = frozenset()) -> tuple[int, float]:
    """`decide` for one token, without the fixed cost of five tensor operations.

    The `masked` choices do not write: their s_t[k] is -inf, and the rest is renormalised.
    """
    experts = expert_probabilities(scores, masked)
    p_defer = min(1.0, sum(experts))  # which rounding may bring above 1
    return (1 + experts.index(max(experts)) if p_defer > eta else 0), p_defer


def expert_probabilities(scores: Sequence[float], masked: Set[int] = frozenset()) -> list[float]:
    """P(Z = k) of the experts k = 1..M, 0 for those that are masked: s [K] -> [M]."""
    if masked:
        scores = [-math.inf if k in masked else score for k, score in enumerate(scores)]
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights[1:]]
