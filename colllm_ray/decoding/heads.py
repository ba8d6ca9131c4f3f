"""Several deferral heads on one base: the collaboration's own, and others to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from colllm_ray.decoding.model_client import ModelClient
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine.messages import Deliver, Extend, Extended, Reply


class Heads(nn.Module):
    """The scores of all heads, one behind the other: h [N, D] -> [N, heads * K]."""

    def __init__(self, heads: Sequence[DeferralHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat([head(hidden) for head in self.heads], dim=-1)


class OneHead:
    """A base with several heads, as if it had the one that is given by its number."""

    def __init__(self, base: ModelClient, number: int, choices: int) -> None:
        self.works_beside = base.works_beside
        self._base = base
        self._scores = slice(number * choices, (number + 1) * choices)

    def post(self, request: Extend, deliver: Deliver) -> None:
        def told(reply: Reply) -> None:
            if isinstance(reply, Extended):
                choices = tuple(
                    replace(choice, scores=choice.scores and choice.scores[self._scores]) for choice in reply.choices
                )
                reply = replace(reply, choices=choices)
            deliver(reply)

        self._base.post(request, told)

    def close_session(self, session: str) -> None:
        self._base.close_session(session)
