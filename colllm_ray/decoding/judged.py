"""A given text under all members and the head: what likelihoods are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from colllm_ray.decoding.model_client import ModelClient, scores_of
from colllm_ray.decoding.score_text import choices_at, gold_logprob
from colllm_ray.engine.text import Text


@dataclass(frozen=True)
class Judged:
    """Of one text's n targets: each model's natural log-prob of it [n][models], and the head's scores s_t [n][K]."""

    gold_logprob: tuple[tuple[float, ...], ...]
    scores: tuple[tuple[float, ...], ...]


async def judged(clients: Sequence[ModelClient], text: Text) -> Judged:
    """Asks all models, the base first of them. Raises ModelFailedError."""
    places = [t for t, is_target in enumerate(text.target_mask) if is_target]
    said = await asyncio.gather(*(choices_at(client, text.input_ids, places) for client in clients))
    return Judged(
        gold_logprob=tuple(tuple(gold_logprob(choices[t]) for choices in said) for t in places),
        scores=tuple(scores_of(said[0][t]) for t in places),
    )
