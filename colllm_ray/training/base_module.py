"""Base and head as one module: what DeepSpeed trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from colllm_ray.deferral.head import DeferralHead


class BaseWithHead(nn.Module):
    """Answers at wanted positions alone, so that no logits of prompts are computed.

    `model` may be wrapped (by an adapter); `output_layer` is its own, which gets h.
    """

    def __init__(self, model: PreTrainedModel, output_layer: nn.Module, head: DeferralHead, vocab_size: int) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self._vocab_size = vocab_size
        self._wanted: Tensor | None = None
        self._hidden: Tensor | None = None
        output_layer.register_forward_pre_hook(self._keep_wanted)

    def forward(self, input_ids: Tensor, wanted: Tensor, gold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """input_ids [B, T]; wanted [N] counts through them row by row; gold [N], the tokens that follow there.

        Returns the head's scores s [N, K], the base's log P(x) [N], and whether x is its likeliest token [N] bool.
        """
        self._wanted = wanted
        logits = self.model(input_ids=input_ids, use_cache=False).logits[0, :, : self._vocab_size].float()  # [N, V]
        hidden, self._hidden, self._wanted = self._hidden, None, None
        assert hidden is not None, "a forward pass calls the output layer"
        logprob = logits.gather(1, gold[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)
        return self.head(hidden), logprob, logits.argmax(1) == gold  # of ties, decoding writes the first

    def _keep_wanted(self, _output_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        assert self._wanted is not None
        self._hidden = inputs[0].flatten(0, 1).index_select(0, self._wanted)  # [N, D]
        return (self._hidden[None],)
