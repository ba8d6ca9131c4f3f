"""How the loop speaks to a model, wherever it runs, and how it keeps a session there."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol
from uuid import uuid4

from colllm_ray.engine.messages import Behind, Extend, Extended


class ModelClient(Protocol):
    """A language model that holds sessions: an engine in this process (`Stepper`) or one across a link."""

    async def extend(self, request: Extend) -> Extended | Behind: ...

    async def close(self, session: str) -> None: ...


class Session:
    """One answer's session on one model; it opens with the first question and closes with the `async with`.

    The caller owns the tokens, the model only a cache of them: whatever the model has lost is sent again.
    """

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self._name = uuid4().hex
        self._have = 0  # tokens that the model has taken in, as far as we know
        self._open = False

    async def next(self, tokens: Sequence[int]) -> Extended:
        """What the model writes after `tokens`; only those that it has not seen are sent (the catch-up)."""
        self._open = True
        while True:
            request = Extend(self._name, start=self._have, tokens=tuple(tokens[self._have :]))
            reply = await self._client.extend(request)
            if isinstance(reply, Extended):
                self._have = len(tokens)
                return reply
            if reply.have >= self._have:
                raise RuntimeError(f"a model asked for tokens from {reply.have} that were sent from {self._have}")
            self._have = reply.have

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            await self._client.close(self._name)
