"""Answers as JSON in one piece."""

from __future__ import annotations

import asyncio

from fastapi import Response
from pydantic import BaseModel

from colllm_ray.serving.api.answers import ChatAnswer, CompletionAnswer

NO_CHOICES = '"choices":[]'


def as_json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


async def whole(answer: ChatAnswer | CompletionAnswer) -> Response:
    """The answer, whose choices are written one by one: a hundred long ones with log-probs take their time."""
    choices = []
    for choice in answer.choices:
        choices.append(choice.model_dump_json())
        await asyncio.sleep(0)
    # No text in JSON holds this, as its quotes would be escaped there.
    head, _, tail = answer.model_copy(update={"choices": []}).model_dump_json().partition(NO_CHOICES)
    return Response(f'{head}"choices":[{",".join(choices)}]{tail}', media_type="application/json")
