"""The marginal likelihood of a text when nobody knows who wrote which token, and the weak labels it starts from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def marginal_logprob(scores: Tensor, gold_logprob: Tensor) -> Tensor:
    """log sum_k P(Z_t = k) P_k(x_t): s [N, K], log P_k(x_t) [N, K] -> [N] (paper, equation 2)."""
    logprob: Tensor = _MarginalLogprob.apply(scores, gold_logprob)  # type: ignore[no-untyped-call]
    return logprob


class _MarginalLogprob(torch.autograd.Function):
    """With its gradients in closed form: P(Z_t = k | x_t) - P(Z_t = k) in s, and P(Z_t = k | x_t) in log P_k(x_t).

    Choices come first inside: along a last dimension of so few, every operation is several times slower.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gold_logprob: Tensor) -> Tensor:
        scores = scores.T.contiguous()  # [K, N]
        prior, log_total = _softmax(scores)
        posterior, log_joint_total = _softmax(scores + gold_logprob.T)
        ctx.save_for_backward(prior, posterior)
        return log_joint_total - log_total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        prior, posterior = ctx.saved_tensors
        return ((posterior - prior) * gradients[0]).T, (posterior * gradients[0]).T


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """softmax [K, N] over the first dimension and logsumexp [N], from the same exponentials."""
    highest = scores.amax(0)
    weights = (scores - highest).exp_()
    total = weights.sum(0)
    return weights.div_(total), highest + total.log()


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
