"""What training makes small, for each target token: Co-LLM's marginal likelihood, and its rivals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from colllm_ray.deferral.loss import marginal_logprob, weak_loss

ObjectiveName = Literal["marginal", "weak", "finetune"]

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""s [N, K], log P_k(x_t) [N, K], weak labels [N] -> nats [N]."""


def marginal_objective(prices: Tensor) -> Objective:
    """Minus the marginal log-likelihood, each choice's log-prob lowered by its price: prices [K] in nats.

    So it pays to defer exactly where an expert's log-prob is higher than the base's by more than the price.
    """
    return lambda scores, gold_logprob, _labels: -marginal_logprob(scores, gold_logprob - prices)


def weak_objective(weights: Tensor) -> Objective:
    """Cross-entropy of the head alone to guessed authors, balanced by weights [K]."""

    def losses(scores: Tensor, _gold_logprob: Tensor, labels: Tensor) -> Tensor:
        return weak_loss(scores, labels, weights)

    return losses


def own_objective(_scores: Tensor, gold_logprob: Tensor, _labels: Tensor) -> Tensor:
    """The base's own cross-entropy: plain fine-tuning."""
    return -gold_logprob[:, 0]


def head_objective(name: ObjectiveName, prices: Tensor, weights: Tensor) -> Objective:
    """Of the head beside a frozen base."""
    return marginal_objective(prices) if name == "marginal" else weak_objective(weights)


def joint_objective(name: ObjectiveName, prices: Tensor, weights: Tensor) -> Objective:
    """Of head and base together; `weak` is the paper's baseline, the head's cross-entropy next to the base's own."""
    if name == "marginal":
        return marginal_objective(prices)
    if name == "finetune":
        return own_objective
    weak = weak_objective(weights)
    return lambda scores, logprob, labels: weak(scores, logprob, labels) + own_objective(scores, logprob, labels)
