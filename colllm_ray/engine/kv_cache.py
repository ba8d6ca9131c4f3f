"""Keys and values of many texts in preallocated slots, and attention over them.

A step packs the new tokens of all its texts into one row [1, N], so that everything in the model but attention sees
one dense batch without padding. Attention is registered with transformers under the name `ATTENTION` and is given
the step as a keyword argument, the way transformers hands its own paged cache to its attention functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from colllm_ray.errors import ColllmError

ATTENTION = "colllm_slots"
_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models ask of attention and we do not do


@dataclass(frozen=True)
class Row:
    """A text that takes in tokens: they go to slot `slot` from index `start` on."""

    slot: int
    start: int
    tokens: Sequence[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class _Run:
    """B rows of T tokens each in neighbouring slots: one call of attention, over keys up to index `length`."""

    slots: slice
    tokens: slice  # of the packed row
    positions: Tensor  # [B, T]
    length: int
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)  # by the width of the sliding window

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the attention weights, [B, 1, T, L], of the query's dtype; None where every key is seen."""
        if window not in self.masks:
            self.masks[window] = self._mask(window, dtype)
        return self.masks[window]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if self.positions.numel() == 1 and (window is None or self.length <= window):
            return None
        key = torch.arange(self.length, device=self.positions.device)
        distance = self.positions[:, None, :, None] - key  # [B, 1, T, L]
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        return torch.zeros(hidden.shape, dtype=dtype, device=key.device).masked_fill_(hidden, -torch.inf)


class Step:
    """The rows of one forward pass, packed: `input_ids` and `positions` [1, N], `slots` [N]."""

    def __init__(self, cache: KVCache, rows: Sequence[Row]) -> None:
        """`rows` in the order of `in_step_order`."""
        self.cache = cache
        numbers = [
            (token, position, row.slot) for row in rows for position, token in enumerate(row.tokens, start=row.start)
        ]
        packed = torch.tensor(numbers).t().to(cache.device, non_blocking=True)  # [3, N]
        self.input_ids, self.positions, self.slots = packed[None, 0], packed[None, 1], packed[2]
        self.runs: list[_Run] = []
        first = 0
        for run in _neighbours(rows):
            b, t = len(run), len(run[0].tokens)
            tokens = slice(first, first + b * t)
            positions = self.positions[0, tokens].view(b, t)
            slots = slice(run[0].slot, run[0].slot + b)
            self.runs.append(_Run(slots, tokens, positions, max(row.end for row in run)))
            first = tokens.stop


def in_step_order(row: Row) -> tuple[int, int]:
    """Sorts rows so that those which can share a call of attention are neighbours."""
    return len(row.tokens), row.slot


def _neighbours(rows: Sequence[Row]) -> list[list[Row]]:
    """Splits sorted rows into runs of neighbouring slots that take in one token; the others each for itself."""
    runs: list[list[Row]] = []
    for _, group in groupby(enumerate(rows), lambda item: (len(item[1].tokens), item[1].slot - item[0])):
        run = [row for _, row in group]
        runs.extend([run] if len(run[0].tokens) == 1 else [[row] for row in run])
    return runs


class KVCache:
    """Memory for `slots` texts of up to `length` tokens; a layer's is taken when it first stores something.

    Nothing is moved when texts come, grow, are cut back and go: what lies beyond a text's end is never looked at.
    """

    def __init__(self, slots: int, length: int, device: torch.device) -> None:
        self.slots = slots
        self.length = length
        self.device = device
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}  # keys and values [S, H, L, D]

    def store(self, layer: int, step: Step, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the new keys and values [1, H, N, D] in their places; returns all of the layer's."""
        if layer not in self._layers:
            self._layers[layer] = (self._allocate(key), self._allocate(value))
        keys, values = self._layers[layer]
        keys[step.slots, :, step.positions[0]] = key[0].transpose(0, 1)
        values[step.slots, :, step.positions[0]] = value[0].transpose(0, 1)
        return keys, values

    def _allocate(self, example: Tensor) -> Tensor:
        """Zeros, because what a mask hides still takes part with weight 0, and 0 times NaN is NaN."""
        _, heads, _, width = example.shape
        shape = (self.slots, heads, self.length, width)
        try:
            if self.device.type == "cpu":  # numpy's zeros, unlike torch's, take no memory until they are written to
                memory = np.zeros(math.prod(shape) * example.element_size(), dtype=np.uint8)
                return torch.from_numpy(memory).view(example.dtype).view(shape)
            return example.new_zeros(shape)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise ColllmError(
                f"no memory on {self.device} for {self.slots} sessions of {self.length} tokens; lower `max_sessions`"
                " or the collaboration's `context`"
            ) from error


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
    keys, values = step.cache.store(int(module.layer_idx), step, key, value)  # type: ignore[arg-type]
    outputs = []
    for run in step.runs:
        b, t = run.positions.shape
        output = scaled_dot_product_attention(
            query[0, :, run.tokens].unflatten(1, (b, t)).transpose(0, 1),  # [B, H, T, D]
            keys[run.slots, :, : run.length],
            values[run.slots, :, : run.length],
            attn_mask=run.mask(sliding_window, query.dtype),
            scale=scaling,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))  # [B * T, H, D]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


AttentionInterface.register(ATTENTION, attend)
