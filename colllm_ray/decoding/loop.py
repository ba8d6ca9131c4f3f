"""Collaborative decoding (paper, section 3.3) one token after the other, and decoding with one model alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.model_client import ModelClient, ModelFailedError, News, Session, scores_of
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.rule import decide_one
from colllm_ray.engine.messages import Choice


async def decode(
    base: ModelClient,
    experts: Sequence[ModelClient],
    prompt: Sequence[int],
    eta: float,
    terms: Terms,
    account: Account | None = None,
) -> AsyncGenerator[WrittenToken, None]:
    """Writes an answer together.

    At each t the base takes in what is new and says s_t. Where d_t > eta, the likeliest expert catches up and writes;
    else the base's own choice stands. Raises ModelFailedError.
    """
    x, news = list(prompt), News()
    account = account or Account()
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(Session(client, terms.sampling, news.tell, terms.top)) for client in (base, *experts)
        ]
        account.follow(sessions, range(len(sessions)))
        for _ in range(terms.max_tokens):
            base_choice = await _next(sessions[0], x, news)
            while True:
                k, p_defer = decide_one(scores_of(base_choice), eta, terms.masked | set(account.lost))
                try:
                    choice = await _next(sessions[k], x, news) if k > 0 else base_choice
                    break
                except ModelFailedError:
                    if terms.needs_all:
                        raise
                    account.lost.append(k)
            x.append(choice.token)
            yield WrittenToken(choice.token, k, p_defer, choice.logprob, choice.top)
            if choice.token in terms.end_tokens:
                return


async def decode_alone(
    client: ModelClient, author: int, prompt: Sequence[int], terms: Terms, account: Account | None = None
) -> AsyncGenerator[WrittenToken, None]:
    """Writes an answer with one model, the member `author`. Raises ModelFailedError."""
    x, news = list(prompt), News()
    with Session(client, terms.sampling, news.tell, terms.top) as session:
        (account or Account()).follow([session], [author])
        for _ in range(terms.max_tokens):
            choice = await _next(session, x, news)
            x.append(choice.token)
            yield WrittenToken(choice.token, author, None, choice.logprob, choice.top)
            if choice.token in terms.end_tokens:
                return


async def _next(session: Session, x: list[int], news: News) -> Choice:
    session.ask(x)
    while True:
        await news.wait()
        for _, choice in session.take(x):
            return choice
