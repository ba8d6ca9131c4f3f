"""A given text, looked at as if the collaboration had written it: by whom each token, and how likely it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set

from colllm_ray.decoding.model_client import ModelClient, scores_of
from colllm_ray.decoding.score_text import choices_at, gold_logprob
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.rule import decide_one
from colllm_ray.engine.messages import Choice


async def given(
    clients: Sequence[ModelClient], text: Sequence[int], eta: float, masked: Set[int], top: int
) -> list[WrittenToken]:
    """All tokens but the first: the base says at each place who would write there, and that model how likely it is.

    `clients`: the base first; `masked` experts do not write. Raises ModelFailedError.
    """
    base = await choices_at(clients[0], text, range(1, len(text)), top)
    decided = {t: decide_one(scores_of(choice), eta, masked) for t, choice in base.items()}
    places: list[list[int]] = [[] for _ in clients]
    for t, (author, _) in decided.items():
        places[author].append(t)
    experts = [choices_at(client, text, at, top) for client, at in zip(clients[1:], places[1:], strict=True) if at]
    choices = dict(base)
    for said in await asyncio.gather(*experts):
        choices.update(said)
    return [_given(text[t], author, p_defer, choices[t]) for t, (author, p_defer) in decided.items()]


async def given_alone(client: ModelClient, author: int, text: Sequence[int], top: int) -> list[WrittenToken]:
    """All tokens but the first, as if one model had written them. Raises ModelFailedError."""
    choices = await choices_at(client, text, range(1, len(text)), top)
    return [_given(text[t], author, None, choice) for t, choice in choices.items()]


def _given(token: int, author: int, p_defer: float | None, choice: Choice) -> WrittenToken:
    return WrittenToken(token, author, p_defer, gold_logprob(choice), choice.top)
