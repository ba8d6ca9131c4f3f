"""What a copy of a model takes up, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from colllm_ray.config import ModelConfig
from colllm_ray.engine.checkpoint import empty_model
from colllm_ray.engine.weights import weights_dtype
from colllm_ray.errors import ColllmError

TOKENS = 2  # of the text that shows how large a token's keys and values are


@dataclass(frozen=True)
class Needs:
    """Bytes of the weights and of the KV cache for `sessions` texts of `context` tokens, on all its GPUs together."""

    weights: int
    kv_of_token: int
    sessions: int
    context: int

    @property
    def kv_cache(self) -> int:
        return self.kv_of_token * (self.sessions + 1) * self.context  # one more, for what pads a step

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache


def needs_of(config: ModelConfig, context: int) -> Needs:
    """Builds the model without any memory, and lets it take in a text. Raises ColllmError.

    An adapter is merged into the weights and takes no room. What a step needs beside these depends on its size.
    """
    size = getattr(torch, weights_dtype(config)).itemsize
    model = empty_model(config)
    try:
        with torch.device("meta"), torch.inference_mode():
            cache = model(input_ids=torch.zeros(1, TOKENS, dtype=torch.long), use_cache=True).past_key_values
            kept = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ColllmError(f"{config.model}: its size cannot be told from its configuration: {error}") from error
    return Needs(
        weights=size * sum(weights.numel() for weights in model.parameters()),
        kv_of_token=size * sum(tensor.numel() for tensor in kept) // TOKENS,
        sessions=config.max_sessions,
        context=context,
    )
