"""A session over a real engine: what it sends, what it believes, and what it does when the model has lost the text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from colllm_ray.decoding.model_client import News, Session
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Deliver, Extend
from colllm_ray.engine.stepper import Stepper
from tests.conftest import CONTEXT

LanguageModelOf = Callable[[str], LanguageModel]


class Noted:
    """A stepper that remembers what it was sent."""

    works_beside = False

    def __init__(self, model: LanguageModel) -> None:
        self.stepper = Stepper(Engine(model, 4, CONTEXT))
        self.sent: list[Extend] = []

    def post(self, request: Extend, deliver: Deliver) -> None:
        self.sent.append(request)
        self.stepper.post(request, deliver)

    def close_session(self, session: str) -> None:
        self.stepper.close_session(session)


@pytest.fixture
def client(language_model: LanguageModelOf) -> Noted:
    return Noted(language_model("llama"))


async def heard(session: Session, news: News, text: list[int]) -> list[int]:
    """The tokens of the next thing that is said about `text`."""
    while True:
        await news.wait()
        if said := session.take(text):
            return [choice.token for _, choice in said]


def test_only_what_is_new_is_sent(client: Noted) -> None:
    async def run() -> None:
        news = News()
        with Session(client, None, news.tell) as session:
            for text in ([5, 6, 7], [5, 6, 7, 8, 9], [5, 6, 10]):
                session.ask(text)
                await heard(session, news, text)
        assert [(request.start, request.tokens) for request in client.sent] == [(0, (5, 6, 7)), (3, (8, 9)), (2, (10,))]
        assert client.stepper.engine.session_count == 0

    asyncio.run(run())


def test_what_was_said_about_another_text_is_not_heard(client: Noted) -> None:
    async def run() -> None:
        news = News()
        with Session(client, None, news.tell) as session:
            session.ask([5, 6, 7], want=3)
            await news.wait()
            assert [index for index, _ in session.take([5, 6, 8])] == [1, 2]

    asyncio.run(run())


def test_a_draft_is_under_way_until_it_is_over(client: Noted) -> None:
    async def run() -> None:
        news, text = News(), [5, 6, 7]
        with Session(client, None, news.tell) as session:
            session.ask(text, draft=2)
            assert session.is_asked(text, 3)
            text += await heard(session, news, text)
            for _ in range(2):
                assert session.is_asked(text, len(text))
                assert not session.is_idle(text)
                assert not session.is_asked([*text[:-1], 299], len(text))
                text += await heard(session, news, text)
            assert session.is_idle(text)
            assert len(client.sent) == 1

    asyncio.run(run())


def test_a_session_that_is_lost_while_it_drafts_can_be_asked_again(client: Noted) -> None:
    async def run() -> None:
        news, text = News(), [5, 6, 7]
        with Session(client, None, news.tell) as session:
            session.ask(text, draft=2)
            text += await heard(session, news, text)
            client.stepper.engine.close(client.sent[0].session)  # as an eviction would
            await news.wait()
            assert not session.is_asked(text, len(text))
            session.ask(text)
            assert len(await heard(session, news, text)) == 1
            assert client.sent[-1].start == 0

    asyncio.run(run())
