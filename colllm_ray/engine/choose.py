"""What a model writes next, from its log-probs: the greedy token, or a drawn one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from colllm_ray.engine.messages import Sampling

COLDEST = 1e-4  # below it a temperature draws the likeliest token, and float32 none at all


def choose(logprobs: Tensor, indices: Sequence[int], samplings: Sequence[Sampling | None]) -> Tensor:
    """The tokens [N] written at these indices of their texts: log-probs [N, V] float32."""
    tokens = logprobs.argmax(dim=-1)
    for row, (index, sampling) in enumerate(zip(indices, samplings, strict=True)):
        if sampling is not None:
            tokens[row] = _draw(logprobs[row], sampling, index)
    return tokens


def _draw(logprobs: Tensor, sampling: Sampling, index: int) -> Tensor:
    """One token [] by the Gumbel-max trick: it depends on nothing but the log-probs [V], the seed and the index.

    So a position that is computed again, or as a guess first, draws the same; and two models that agree about the
    distribution draw the same token, which is what makes guesses of one by the other come true.
    """
    logits = (logprobs - logprobs.max()) / max(sampling.temperature, COLDEST)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = torch.softmax(ordered, dim=-1)
        outside = p.cumsum(-1) - p >= sampling.top_p  # of those before it, so that the first one always stays
        logits = logits.scatter(0, order, ordered.masked_fill(outside, -torch.inf))
    generator = torch.Generator(logits.device).manual_seed(_mixed(sampling.seed, index))
    exponential = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - exponential.log()).argmax()


def _mixed(seed: int, index: int) -> int:
    """A 63-bit seed that differs in every bit for near pairs (the finaliser of SplitMix64: Steele et al., 2014)."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return (z ^ z >> 31) >> 1
