"""The deferral head: s_t = W h_t + b, with the base's score fixed at zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class DeferralHead(nn.Module):
    """Scores of the K = M + 1 choices from the base's hidden state (paper, section 3.1; M = 1 is its sigmoid).

    Weight [M, D] and bias [M] belong to the experts; zeros at the start, so that all choices begin equal.
    """

    def __init__(self, hidden_size: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, hidden_size))
        self.bias = nn.Parameter(torch.zeros(experts))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> DeferralHead:
        """The head with these weights: "weight" [M, D] and "bias" [M]."""
        experts, hidden_size = tensors["weight"].shape
        head = cls(hidden_size, experts)
        head.load_state_dict(tensors)
        return head

    def forward(self, hidden: Tensor) -> Tensor:
        """h [N, D] -> s [N, K] in float32 at least, s[:, 0] = 0."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        scores = nn.functional.linear(hidden.to(dtype), self.weight.to(dtype), self.bias.to(dtype))  # [N, M]
        return nn.functional.pad(scores, (1, 0))
