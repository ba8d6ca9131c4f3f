"""Attention of a step's new tokens to what the KV cache holds of their texts.

A step packs the new tokens of all its texts into one row [1, N], so that everything in the model but attention sees
one dense batch. Attention is registered with transformers under the name `ATTENTION` and is given the step as a
keyword argument, the way transformers hands its own paged cache to its attention functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from colllm_ray.engine.kv_cache import KVCache
from colllm_ray.errors import ColllmError

ATTENTION = "colllm_slots"
_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models ask of attention and we do not do


@dataclass(frozen=True)
class Run:
    """B texts that take in T tokens each: one call of attention, over keys up to index `length`."""

    slots: slice | Tensor  # a slice is looked at in place, [B] others are gathered
    tokens: slice  # of the packed row
    positions: Tensor  # [B, T]
    length: int
    all_seen: bool  # every token sees every key, but for the sliding window
    _masks: dict[tuple[int | None, int], Tensor | None] = field(default_factory=dict)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scale: float | None, window: int | None) -> Tensor:
        """query [H, N, D], of the whole step; keys, values [S, H_kv, L, D], of a layer; returns [B * T, H, D]."""
        heads, kv_heads, (b, t) = query.shape[0], keys.shape[1], self.positions.shape
        groups = heads // kv_heads
        # The heads that share keys are further queries to them: fused kernels take that with a mask, unlike enable_gqa.
        grouped = query[:, self.tokens].view(kv_heads, groups, b, t, -1).permute(2, 0, 1, 3, 4).flatten(2, 3)
        output = scaled_dot_product_attention(
            grouped,  # [B, H_kv, G * T, D]
            keys[self.slots, :, : self.length],
            values[self.slots, :, : self.length],
            attn_mask=self._mask(window, groups, query.dtype),
            scale=scale,
        )
        return output.view(b, kv_heads, groups, t, -1).permute(0, 3, 1, 2, 4).reshape(b * t, heads, -1)

    def on(self, device: torch.device) -> Run:
        """The same on another device."""
        slots = self.slots if isinstance(self.slots, slice) else self.slots.to(device)
        return replace(self, slots=slots, positions=self.positions.to(device), _masks={})

    def _mask(self, window: int | None, groups: int, dtype: torch.dtype) -> Tensor | None:
        """What is added to the attention weights, [B, 1, G * T, L]; None where every key is seen."""
        if self.all_seen and (window is None or self.length <= window):
            return None
        if (window, groups) not in self._masks:
            key = torch.arange(self.length, device=self.positions.device)
            distance = self.positions[:, None, :, None] - key  # [B, 1, T, L]
            hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            mask = torch.zeros(hidden.shape, dtype=dtype, device=key.device).masked_fill_(hidden, -torch.inf)
            self._masks[window, groups] = mask if groups == 1 else mask.repeat(1, 1, groups, 1)
        return self._masks[window, groups]


@dataclass(frozen=True)
class Step:
    """The texts of one forward pass: their new tokens one after the other, and who attends to what."""

    cache: KVCache
    input_ids: Tensor  # [1, N]
    positions: Tensor  # [1, N]
    slots: Tensor  # [N]
    runs: Sequence[Run]
    _elsewhere: dict[torch.device, Step] = field(default_factory=dict)

    def on(self, device: torch.device) -> Step:
        """The same on the device of a layer, where the model is spread over several."""
        if device == self.slots.device:
            return self
        if device not in self._elsewhere:
            ids, positions = self.input_ids.to(device), self.positions.to(device)
            runs = [run.on(device) for run in self.runs]
            self._elsewhere[device] = Step(self.cache, ids, positions, self.slots.to(device), runs)
        return self._elsewhere[device]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 (transformers' interface; a step knows its own masks)
    *,
    step: Step,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001 (nothing is dropped in inference)
    sliding_window: int | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query, key, value [1, H, N, D] -> [1, N, H, D]."""
    for name in _UNKNOWN:
        if others.get(name) is not None:
            raise ColllmError(f"{type(module).__name__} needs attention with `{name}`, which the engine does not have")
    if getattr(module, "is_causal", True) is False:
        raise ColllmError(f"{type(module).__name__} sees the whole text at each token; a member sees what is before it")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    step = step.on(key.device)
    keys, values = step.cache.store(layer, step.slots, step.positions[0], key, value)
    outputs = [run.attend(query[0], keys, values, scaling, sliding_window) for run in step.runs]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


AttentionInterface.register(ATTENTION, attend)
