"""Collaborative decoding that runs ahead: the same tokens as the plain loop, sooner (lossless speculation)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.model_client import ModelClient, ModelFailedError, News, Session
from colllm_ray.decoding.pace import Pace
from colllm_ray.decoding.tail import Tail
from colllm_ray.decoding.written import Terms, WrittenToken


async def decode_ahead(
    base: ModelClient,
    experts: Sequence[ModelClient],
    prompt: Sequence[int],
    eta: float,
    terms: Terms,
    pace: Pace,
    account: Account | None = None,
) -> AsyncGenerator[WrittenToken, None]:
    """Writes what `decode` writes, while nobody waits for a token that can be guessed.

    At a deferral the base goes on from its own choice, past later deferrals too; one forward pass of the expert then
    answers all of them. An expert goes on from its own token; one forward pass of the base then tells at all of its
    drafts who should have written. An expert that is idle and likely to be asked next is shown the text as it grows.
    Raises ModelFailedError.
    """
    account = account or Account()
    tail, news = Tail(prompt, eta, terms, account), News()
    with pace.answering(), ExitStack() as stack:
        sessions = [
            stack.enter_context(Session(client, terms.sampling, news.tell, terms.top)) for client in (base, *experts)
        ]
        account.follow(sessions, range(len(sessions)))
        while True:
            for author, session in enumerate(sessions):
                if author in account.lost:
                    continue
                try:
                    heard = session.take(tail.text)
                except ModelFailedError:
                    if author == 0 or terms.needs_all:
                        raise
                    account.lost.append(author)
                    tail.decide_again()
                    continue
                if heard:
                    pace.saw_answer(author, session.answered_in)
                for index, choice in heard:
                    tail.heard(author, index, choice)
            written = tail.settle(pace)
            if not tail.finished:
                tail.guess(pace)
                _ask(sessions, tail, pace)
            for token in written:
                yield token
            if tail.finished:
                return
            await news.wait()


def _ask(sessions: Sequence[Session], tail: Tail, pace: Pace) -> None:
    """Sees to it that every model is asked for what it can say about the text as it is now."""
    base, *experts = sessions
    if (want := tail.base_wants) and not base.is_asked(tail.text, len(tail.text) + 1 - want):
        base.ask(tail.text, want)
    for author, expert in enumerate(experts, start=1):
        if (questions := tail.open_questions(author)) is not None:
            first, last = questions
            if not expert.is_asked(tail.text, first):
                expert.ask(tail.text[:last], last + 1 - first, pace.draft(author))
        elif author == tail.likeliest_expert and expert.is_idle(tail.text):
            gap = expert.gap(tail.text)
            if gap and pace.follows(author, gap):
                expert.ask(tail.text)
