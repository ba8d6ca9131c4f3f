"""A given text instead of a written one: what a model that answers would have thought of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid4

from colllm_ray.decoding.model_client import ModelClient, ModelFailedError
from colllm_ray.engine.messages import Behind, Choice, Extend, Extended, Reply
from colllm_ray.engine.stepper import CHUNK
from colllm_ray.engine.text import NOT_FINITE, GoldScores, Text


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
    ids = text.input_ids
    choices = await choices_at(client, ids, [t for t, is_target in enumerate(text.target_mask) if is_target])
    if not all(math.isfinite(gold_logprob(choice)) for choice in choices.values()):
        raise ModelFailedError(NOT_FINITE)
    return GoldScores(
        tuple(gold_logprob(choice) for choice in choices.values()),
        tuple(choice.token == ids[t] for t, choice in choices.items()),
    )


async def choices_at(
    client: ModelClient, text: Sequence[int], places: Sequence[int], top: int = 0
) -> dict[int, Choice]:
    """What a model would write at each of the places, which rise from 1 on, given the text before them.

    The text is sent in parts, in a session of its own; each choice has the `gold_logprob` of the text's own token.
    Raises ModelFailedError.
    """
    session, ids = uuid4().hex, tuple(text)
    chosen: dict[int, Choice] = {}
    last = places[-1] if places else 0
    try:
        for number, start in enumerate(range(0, last, CHUNK), start=1):
            end = min(start + CHUNK, last)
            here = [t for t in places if start < t <= end]
            want = end + 1 - here[0] if here else 0
            gold = ids[end + 1 - want : end + 1]
            request = Extend(session, start, ids[start:end], number, want, gold=gold, top=top)
            choices = dict(enumerate(await _answer(client, request, ids), start=end + 1 - want))
            chosen.update({t: choices[t] for t in here})
    finally:
        client.close_session(session)
    return chosen


def gold_logprob(choice: Choice) -> float:
    """That of the text's own token, which was asked for."""
    assert choice.gold_logprob is not None, "it was asked for"
    return choice.gold_logprob


def _give(reply: asyncio.Future[Reply], heard: Reply) -> None:
    if not reply.done():  # nobody waits any more
        reply.set_result(heard)


async def _answer(client: ModelClient, request: Extend, ids: tuple[int, ...]) -> tuple[Choice, ...]:
    """The choices of a request; what the model has lost of the text meanwhile is sent again."""
    start = request.start
    while True:
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        tokens = ids[start : request.end]
        again = replace(request, start=start, tokens=tokens)
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
