"""All models around the text of one answer: whoever is asked, is asked side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.model_client import ModelClient, News, Session
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.engine.messages import Choice, More


class Panel:
    """The models of one answer, numbered as the head's choices are, and guests behind them.

    Their sessions last as long as the `with`.
    """

    def __init__(
        self,
        members: Sequence[ModelClient],
        guests: Sequence[ModelClient],
        prompt: Sequence[int],
        terms: Terms,
        more: More,
        account: Account,
    ) -> None:
        self.terms = terms
        self.prompt_tokens = len(prompt)
        self.members = range(len(members))
        self.experts = range(1, len(members))
        self._news = News()
        # One likeliest token at least: with sampling the choice is not it.
        top = max(1, terms.top)
        self._sessions = [Session(client, terms.sampling, self._news.tell, top, more) for client in (*members, *guests)]
        account.follow(self._sessions, range(len(self._sessions)))
        self._stack = ExitStack()

    def tokens_left(self, text: Sequence[int]) -> int:
        """How many tokens the answer may still have."""
        return self.prompt_tokens + self.terms.max_tokens - len(text)

    async def ask(self, text: list[int], authors: Iterable[int]) -> dict[int, Choice]:
        """What each of these models would write next. Raises ModelFailedError."""
        said = await self._asked(text, authors, 1)
        return {author: choices[len(text)] for author, choices in said.items()}

    async def ask_back(self, text: list[int], author: int, want: int) -> list[Choice]:
        """What a model would write after each of the last `want` tokens of the text. Raises ModelFailedError."""
        choices = (await self._asked(text, [author], want))[author]
        return [choices[index] for index in sorted(choices)]

    def written(self, choice: Choice, author: int, p_defer: float | None = None) -> WrittenToken:
        """A model's own choice as it stands in the trace."""
        return WrittenToken(choice.token, author, p_defer, choice.logprob, choice.top[: self.terms.top])

    async def _asked(self, text: list[int], authors: Iterable[int], want: int) -> dict[int, dict[int, Choice]]:
        said: dict[int, dict[int, Choice]] = {author: {} for author in authors}
        for author in said:
            self._sessions[author].ask(text, want)
        while any(len(choices) < want for choices in said.values()):
            await self._news.wait()
            for author, choices in said.items():
                choices.update(self._sessions[author].take(text))
        return said

    def __enter__(self) -> Panel:
        for session in self._sessions:
            self._stack.enter_context(session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
