"""What models have said of one prompt's answers, so that no answer is decoded twice where it goes the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from colllm_ray.decoding.model_client import ModelClient, ModelFailedError, Session
from colllm_ray.decoding.written import Terms
from colllm_ray.engine.messages import Choice, Deliver, Extend, Extended, Failed, More

BASE = 0


@dataclass
class Known:
    """A tree of the answers so far: a node is a text, `said` what each model would write behind it.

    `passes`: forward passes by which it came to be known, by model.
    """

    passes: list[int]
    children: dict[tuple[int, int], int] = field(default_factory=dict)  # by node and token
    said: dict[tuple[int, int], Choice] = field(default_factory=dict)  # by node and author
    latest: dict[int, int] = field(default_factory=dict)  # the token with which each node was last gone on

    @classmethod
    def nothing(cls, models: int) -> Known:
        return cls([0] * models)

    def nodes(self, answer: Sequence[int]) -> list[int]:
        """The nodes along an answer, the first that of the prompt."""
        nodes = [0]
        for token in answer:
            self.latest[nodes[-1]] = token
            nodes.append(self.children.setdefault((nodes[-1], token), len(self.children) + 1))
        return nodes

    def latest_from(self, node: int) -> list[int]:
        """How the answers of late go on from a node, as far as the base has been asked."""
        tokens: list[int] = []
        while (token := self.latest.get(node)) is not None:
            node = self.children[node, token]
            if (node, BASE) not in self.said:
                break
            tokens.append(token)
        return tokens


class KnowingClients:
    """The models of one prompt's answers: what is known they say at once; sessions last as long as the `with`.

    An expert that is asked something new is shown how earlier answers go on there, and says in the same forward pass
    what it would write at all places of that.
    """

    def __init__(
        self, clients: Sequence[ModelClient], prompt: Sequence[int], terms: Terms, more: More, known: Known
    ) -> None:
        self._known = known
        self.clients = [
            _KnowingClient(client, author, len(prompt), terms, more, known) for author, client in enumerate(clients)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Sequence[ModelClient]:
        for client in self.clients:
            self._stack.enter_context(client.session)
        return self.clients

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for author, client in enumerate(self.clients):
            self._known.passes[author] += client.session.passes
        self._stack.close()


class _KnowingClient:
    """One model; it is asked by one answer at a time."""

    works_beside = False

    def __init__(
        self, client: ModelClient, author: int, prompt_tokens: int, terms: Terms, more: More, known: Known
    ) -> None:
        self.session = Session(client, terms.sampling, self._on_news, max(1, terms.top), more)
        self._author = author
        self._prompt_tokens = prompt_tokens
        self._known = known
        self._text: list[int] = []
        self._shown: list[int] = []  # the text that the model itself was asked about
        self._waiting: tuple[Extend, Deliver] | None = None

    def post(self, request: Extend, deliver: Deliver) -> None:
        self._text = [*self._text[: request.start], *request.tokens]
        nodes = self._known.nodes(self._text[self._prompt_tokens :])
        wanted = [(node, self._author) for node in nodes[len(nodes) - request.want :]]
        if all(key in self._known.said for key in wanted):
            choices = tuple(self._known.said[key] for key in wanted)
            extended = Extended(request.session, request.number, request.end + 1 - request.want, choices)
            asyncio.get_running_loop().call_soon(deliver, extended)
            return
        ahead = self._known.latest_from(nodes[-1]) if self._author != BASE else []
        self._shown = self._text + ahead
        self._waiting = request, deliver
        self.session.ask(self._shown, request.want + len(ahead))

    def close_session(self, session: str) -> None:
        """Nothing ends: the next answer goes on with what the model holds."""

    def _on_news(self) -> None:
        assert self._waiting is not None
        request, deliver = self._waiting
        try:
            heard = self.session.take(self._shown)
        except ModelFailedError as error:
            deliver(Failed(request.session, request.number, str(error)))
            return
        nodes = self._known.nodes(self._shown[self._prompt_tokens :])
        for index, choice in heard:
            self._known.said[nodes[index - self._prompt_tokens], self._author] = choice
        asked = dict(heard)
        choices = tuple(asked[index] for index in range(request.end + 1 - request.want, request.end + 1))
        deliver(Extended(request.session, request.number, request.end + 1 - request.want, choices))
