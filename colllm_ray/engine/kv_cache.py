"""Preallocated memory for the keys and values of many texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class Row:
    """A text that takes in tokens: they go to slot `slot` from index `start` on."""

    slot: int
    start: int
    tokens: Sequence[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class KVCache:
    """Memory for `slots` texts of up to `length` tokens; a layer's is taken when it first stores something.

    Nothing is moved when texts come, grow, are cut back and go: what lies beyond a text's end is never looked at.
    One slot more, `spare`, is no text's: what pads a step goes there.
    """

    def __init__(self, slots: int, length: int, device: torch.device) -> None:
        self.slots = slots
        self.length = length
        self.device = device
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}  # keys and values [S + 1, H, L, D]

    @property
    def spare(self) -> int:
        return self.slots

    @property
    def layers(self) -> int:
        """How many layers have stored something."""
        return len(self._layers)

    def store(self, layer: int, slots: Tensor, positions: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Puts keys and values [1, H, N, D] where `slots` and `positions` [N] say; returns all of the layer's."""
        if layer not in self._layers:
            self._layers[layer] = (self._allocate(key), self._allocate(value))
        keys, values = self._layers[layer]
        keys[slots, :, positions] = key[0].transpose(0, 1)
        values[slots, :, positions] = value[0].transpose(0, 1)
        return keys, values

    def clear(self, slot: int) -> None:
        """Makes a slot whose text turned into NaN fit for another: see `_allocate`."""
        for layer in self._layers.values():
            for memory in layer:
                memory[slot] = 0

    def _allocate(self, example: Tensor) -> Tensor:
        """Zeros, because what a mask hides still takes part with weight 0, and 0 times NaN is NaN."""
        _, heads, _, width = example.shape
        shape = (self.slots + 1, heads, self.length, width)
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
