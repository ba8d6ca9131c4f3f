"""Calls that outlive the router that works on them: another one goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import TypeVar, cast

from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.serving.api.router_calls import Deadline, RouterLostError, RouterSilentError, asked, streamed
from colllm_ray.serving.router_client import FIRST_SIGN_S, SILENCE_S, Chunk

logger = logging.getLogger("ray.serve")
T = TypeVar("T")

WITHIN_S = 60.0  # another router answers: about what Serve needs to start one
RETRY_S = 0.2


class _Patience:
    """With routers that are lost one after the other, while nothing comes of it."""

    def __init__(self) -> None:
        self._until: float | None = None

    def reset(self) -> None:
        """Something has come of it."""
        self._until = None

    async def after(self, error: RouterLostError) -> None:
        """Waits a moment. Raises the error where this has gone on for too long.

        One that said nothing may only have been busy: the request's deadline is the limit then.
        """
        if isinstance(error, RouterSilentError):
            return
        self._until = self._until or monotonic() + WITHIN_S
        if monotonic() > self._until:
            raise error
        await asyncio.sleep(RETRY_S)


async def lasting(call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns; where its router is lost, it is made again."""
    patience = _Patience()
    while True:
        try:
            return await call()
        except RouterLostError as error:
            await patience.after(error)


async def lasting_answer(
    router: DeploymentHandle, spec: TeamSpec, request: AnswerRequest, deadline: Deadline
) -> AsyncGenerator[Chunk, None]:
    """The answer as `Router.stream` tells it. Raises as `streamed` does.

    Where its router is lost or hangs, another one goes on behind the last token that came: what was written is part of
    its prompt. A token depends on nothing but the text before it and its index there, so the answer is the same.
    """
    written: list[int] = []
    most = spec.tokens_left(request)
    ends = spec.ends(request)
    calls: tuple[int, ...] = (0,) * len(spec.members)
    lost: tuple[int, ...] = ()
    patience = _Patience()
    while True:
        rest = replace(
            request,
            prompt=(*request.prompt, *written),
            max_tokens=most - len(written),
            experts=_without(lost, spec, request.experts),
        )
        so_far = calls, lost
        stream = streamed(asked(router.options(stream=True).stream, rest), deadline, FIRST_SIGN_S, SILENCE_S)
        try:
            async with aclosing(cast(AsyncGenerator[Chunk, None], stream)) as chunks:
                async for chunk in chunks:
                    if chunk.tokens:  # else it only says that it is there, and may die of the question yet
                        patience.reset()
                    written += [token.token for token in chunk.tokens]
                    calls = tuple(a + b for a, b in zip(so_far[0], chunk.calls, strict=True))
                    lost = tuple(dict.fromkeys(so_far[1] + chunk.lost))
                    yield replace(chunk, calls=calls, lost=lost)
            return
        except RouterLostError as error:
            if len(written) == most or (written and written[-1] in ends):
                return  # nothing was lost but the end of the stream
            logger.warning("%s; another one goes on behind %d tokens", error, len(written))
            await patience.after(error)


def _without(lost: Sequence[int], spec: TeamSpec, experts: Sequence[str] | None) -> tuple[str, ...] | None:
    """The experts that may write (None: all), but for those that the answer has gone on without."""
    if not lost:
        return None if experts is None else tuple(experts)
    names = list(spec.members)
    gone = {names[author] for author in lost}
    return tuple(name for name in (names[1:] if experts is None else experts) if name not in gone)
