"""A given text instead of a written one: what a model that answers would have thought of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from colllm_ray.decoding.model_client import ModelClient, ModelFailedError
from colllm_ray.engine.messages import Behind, Choice, Extend, Extended, Reply
from colllm_ray.engine.stepper import CHUNK
from colllm_ray.engine.target_scores import NOT_FINITE, GoldScores, Text


async def score_texts(client: ModelClient, texts: Sequence[Text], room: asyncio.Semaphore) -> list[GoldScores | str]:
    """Scores texts side by side, as far as there is `room`, between the steps of whatever else the model does.

    A text that the model cannot score has the reason in its place.
    """

    async def one(text: Text) -> GoldScores | str:
        async with room:
            try:
                return await score_text(client, text)
            except ModelFailedError as error:
                return str(error)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(text)) for text in texts]
    return [task.result() for task in tasks]


async def score_text(client: ModelClient, text: Text) -> GoldScores:
    """Sends the text in parts, in a session of its own. Raises ModelFailedError."""
    session = uuid4().hex
    logprobs: list[float] = []
    top1: list[bool] = []
    ids = tuple(text.input_ids)
    last = len(ids) - 1  # after which nothing is asked
    try:
        for number, start in enumerate(range(0, last, CHUNK), start=1):
            end = min(start + CHUNK, last)
            targets = [t for t in range(start + 1, end + 1) if text.target_mask[t]]
            want = end + 1 - targets[0] if targets else 0
            request = Extend(session, start, ids[start:end], number, want, gold=ids[end + 1 - want : end + 1])
            choices = dict(enumerate(await _answer(client, request, ids), start=end + 1 - want))
            for t in targets:
                logprob = choices[t].gold_logprob
                assert logprob is not None, "it was asked for"
                if not math.isfinite(logprob):
                    raise ModelFailedError(NOT_FINITE)
                logprobs.append(logprob)
                top1.append(choices[t].token == ids[t])
    finally:
        client.close_session(session)
    return GoldScores(tuple(logprobs), tuple(top1))


def _give(reply: asyncio.Future[Reply], heard: Reply) -> None:
    if not reply.done():  # nobody waits any more
        reply.set_result(heard)


async def _answer(client: ModelClient, request: Extend, ids: tuple[int, ...]) -> tuple[Choice, ...]:
    """The choices of a request; what the model has lost of the text meanwhile is sent again."""
    start = request.start
    while True:
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        tokens = ids[start : request.end]
        again = Extend(request.session, start, tokens, request.number, request.want, gold=request.gold)
        client.post(again, partial(_give, reply))
        match await reply:
            case Extended(choices=choices):
                return choices
            case Behind(have=have) if have < start:
                start = have
            case Behind(have=have):
                raise ModelFailedError(f"it asked again for tokens that it was sent, from {have}")
            case failed:
                raise ModelFailedError(failed.reason)
