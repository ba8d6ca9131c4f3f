"""Greedy collaborative decoding (paper, section 3.3), and decoding with one model alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass

import torch

from colllm_ray.decoding.model_client import ModelClient, Session
from colllm_ray.deferral.rule import decide


@dataclass(frozen=True)
class WrittenToken:
    """One token of an answer and how it came about: a line of the trace.

    author: 0 the base, 1..M the experts; p_defer: d_t, None where nobody decided; logprob: its author's, natural.
    """

    token: int
    author: int
    p_defer: float | None
    logprob: float


async def decode(
    base: ModelClient,
    experts: Sequence[ModelClient],
    prompt: Sequence[int],
    *,
    eta: float,
    max_tokens: int,
    end_tokens: Set[int],
) -> AsyncGenerator[WrittenToken, None]:
    """Writes an answer together, up to an end token (which is the last one given) or `max_tokens` tokens.

    At each t the base takes in what is new and says s_t. Where d_t > eta, the likeliest expert catches up and writes;
    else the base's own choice stands.
    """
    x = list(prompt)
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(Session(client)) for client in (base, *experts)]
        for _ in range(max_tokens):
            step = await sessions[0].next(x)
            if step.scores is None:
                raise ValueError("the base answers without scores; it needs the deferral head")
            author, p_defer = decide(torch.tensor([step.scores]), eta)
            k = int(author)
            written = step if k == 0 else await sessions[k].next(x)
            x.append(written.token)
            yield WrittenToken(written.token, k, float(p_defer), written.logprob)
            if written.token in end_tokens:
                return


async def decode_alone(
    client: ModelClient, author: int, prompt: Sequence[int], *, max_tokens: int, end_tokens: Set[int]
) -> AsyncGenerator[WrittenToken, None]:
    """Writes an answer with one model, the member `author`; else as `decode`."""
    x = list(prompt)
    async with Session(client) as session:
        for _ in range(max_tokens):
            step = await session.next(x)
            x.append(step.token)
            yield WrittenToken(step.token, author, None, step.logprob)
            if step.token in end_tokens:
                return
