"""How the loop speaks to a model, wherever it runs, and how it keeps a session there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Protocol
from uuid import uuid4

from colllm_ray.engine.messages import Behind, Choice, Deliver, Extend, Extended, More, Reply, Sampling
from colllm_ray.engine.text import common_prefix


class ModelClient(Protocol):
    """A language model that holds sessions: an engine in this process (`Stepper`) or one across a link.

    `works_beside`: whether it works while this event loop does other things.
    """

    works_beside: bool

    def post(self, request: Extend, deliver: Deliver) -> None:
        """Asks; `deliver` is called in the event loop for each reply, later than this returns."""

    def close_session(self, session: str) -> None: ...


class Member(ModelClient, Protocol):
    """A model of which there may be no copy at times."""

    def within(self, wait_s: float) -> ModelClient:
        """The same for those who wait so many seconds for a copy, and no longer."""


class ModelFailedError(Exception):
    """A model could not go on with an answer."""


class Session:
    """One answer's session on one model; it opens with the first question and closes with the `with`.

    The caller owns the text, the model only a cache of it: whatever the model has lost is sent again, and what it holds
    too much is cut back. `on_news` is called when something was heard: look at `take`.
    """

    def __init__(
        self,
        client: ModelClient,
        sampling: Sampling | None,
        on_news: Callable[[], None],
        top: int = 0,
        more: More = "nothing",
    ) -> None:
        self._client = client
        self._sampling = sampling
        self._top = top
        self._more = more
        self._on_news = on_news
        self._name = uuid4().hex
        self._number = 0  # of the last question; 0: none yet
        self._held: list[int] = []  # what the model holds, or will hold once it has answered
        self._written = 0  # the token that it wrote last
        self._drafting = 0  # tokens that it still goes on to write by itself
        self._question: Extend | None = None
        self._heard: list[tuple[int, Choice]] = []
        self._failure: str | None = None
        self._asked_at = 0.0
        self.passes = 0  # forward passes that the model has told of
        self.answered_in = 0.0  # seconds, of the last question
        self.link_seconds = 0.0  # of `answered_in`, all questions together, when the model did not have the question

    @property
    def calls(self) -> int:
        """How many questions the model was sent."""
        return self._number

    def gap(self, text: list[int]) -> int:
        """How many tokens of `text` the model has not been sent."""
        return len(text) - common_prefix(self._held, text)

    def is_idle(self, text: list[int]) -> bool:
        """Whether the model is neither asked anything nor drafts on from `text`."""
        return self._question is None and not self._drafts(text)

    def is_asked(self, text: list[int], index: int) -> bool:
        """Whether an answer is under way that will tell what comes at `index` of `text`."""
        question = self._question
        if question is None:
            return index == len(self._held) + 1 and self._drafts(text)
        return question.end - question.want < index <= question.end and self._held[:index] == text[:index]

    def _drafts(self, text: list[int]) -> bool:
        """Whether the model now takes in the token that it wrote last, and that is how `text` goes on."""
        length = len(self._held)
        return self._drafting > 0 and text[length : length + 1] == [self._written] and text[:length] == self._held

    def ask(self, text: list[int], want: int = 1, draft: int = 0) -> None:
        """Asks what comes after the last `want` tokens of `text`; a question that is not answered yet is given up."""
        have = min(common_prefix(self._held, text), len(text) - max(want, 1))
        self._held = list(text)
        self._post(have, want, draft)

    def take(self, text: list[int]) -> list[tuple[int, Choice]]:
        """What was heard since the last time, with its index, as far as it is about `text`.

        Raises ModelFailedError where the model cannot go on.
        """
        if self._failure is not None:
            raise ModelFailedError(self._failure)
        heard, self._heard = self._heard, []
        if not heard:
            return []
        alike = common_prefix(self._held, text)
        return [(index, choice) for index, choice in heard if index <= alike]

    def _post(self, have: int, want: int, draft: int) -> None:
        self._number += 1
        self._asked_at = perf_counter()
        self._question = Extend(
            self._name,
            start=have,
            tokens=tuple(self._held[have:]),
            number=self._number,
            want=want,
            draft=draft,
            sampling=self._sampling,
            top=self._top,
            more=self._more,
        )
        self._client.post(self._question, self._deliver)

    def _deliver(self, reply: Reply) -> None:
        self.passes += isinstance(reply, Extended)
        if reply.number != self._number:
            return
        question = self._question
        if isinstance(reply, Behind):
            if question is None:  # the session went while the model drafted
                self._drafting = 0
                del self._held[reply.have :]
                self._on_news()
                return
            if reply.have < question.start:
                self._post(reply.have, question.want, question.draft)
                return
            self._failure = f"it asked again for tokens that it was sent, from {reply.have}"
        elif isinstance(reply, Extended):
            if question is None:  # a draft: the model has taken in what it wrote before
                self._held.append(self._written)
                self._drafting -= 1
            else:
                self._drafting = question.draft
                self.answered_in = perf_counter() - self._asked_at
                self.link_seconds += max(0.0, self.answered_in - reply.seconds)
            if reply.choices:
                self._written = reply.choices[-1].token
            self._heard.extend(enumerate(reply.choices, start=reply.index))
        else:
            self._failure = reply.reason
        self._question = None
        self._on_news()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._number:
            self._client.close_session(self._name)


def scores_of(choice: Choice) -> tuple[float, ...]:
    """s_t of the base. Raises ModelFailedError for a model without the head."""
    if choice.scores is None:
        raise ModelFailedError("the base answers without scores; it needs the deferral head")
    return choice.scores


class News:
    """Wakes the task that waits for any of its sessions."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.tell = self._event.set

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()
