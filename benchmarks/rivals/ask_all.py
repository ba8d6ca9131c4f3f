"""The method that asks every expert at every token, as ensembles do, on our engines and links."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack

from colllm_ray.decoding.model_client import ModelClient, News, Session, scores_of
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.rule import decide_one
from colllm_ray.engine.messages import Choice


async def decode_asking_all(
    base: ModelClient, experts: Sequence[ModelClient], prompt: Sequence[int], eta: float, terms: Terms
) -> AsyncGenerator[WrittenToken, None]:
    """Writes what `decode` writes; all models take in every token, side by side, before one of them is heard."""
    x, news = list(prompt), News()
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(client, terms.sampling, news.tell)) for client in (base, *experts)]
        for _ in range(terms.max_tokens):
            for session in sessions:
                session.ask(x)
            said: dict[int, Choice] = {}
            while len(said) < len(sessions):
                await news.wait()
                said |= {k: choice for k, session in enumerate(sessions) for _, choice in session.take(x)}
            k, p_defer = decide_one(scores_of(said[0]), eta)
            x.append(said[k].token)
            yield WrittenToken(said[k].token, k, p_defer, said[k].logprob)
            if said[k].token in terms.end_tokens:
                return
