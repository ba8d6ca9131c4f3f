"""The marginal likelihood of a text when nobody knows who wrote which token, and the weak labels it starts from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax


def marginal_logprob(scores: Tensor, gold_logprob: Tensor) -> Tensor:
    """log sum_k P(Z_t = k) P_k(x_t): s [N, K], log P_k(x_t) [N, K] -> [N] (paper, equation 2)."""
    return torch.logsumexp(log_softmax(scores, dim=-1) + gold_logprob, dim=-1)


def weak_labels(gold_logprob: Tensor, top1: Tensor) -> Tensor:
    """Who should write a token, guessed: [N, K], [N, K] bool -> choices [N] in 0..M (paper, section 3.2).

    The expert whose top-1 is the gold token where the base's is not, the surest of several; else the base.
    """
    experts = gold_logprob[:, 1:].masked_fill(~top1[:, 1:], -torch.inf)
    surest = 1 + experts.argmax(dim=1)
    return torch.where(~top1[:, 0] & top1[:, 1:].any(dim=1), surest, 0)


def class_weights(counts: Tensor) -> Tensor:
    """Weights [K] that give every choice that occurs the same total: N / (choices that occur * its count [K])."""
    occurring = (counts > 0).sum()
    return torch.where(counts > 0, counts.sum() / (occurring * counts.clamp(min=1)), 0.0)


def weak_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Class-balanced cross-entropy of each target: s [N, K], labels [N], weights [K] -> [N]."""
    return cross_entropy(scores, labels, weight=weights, reduction="none")
