"""One question, one answer: `colllm ask`, to a collaboration's folder or to a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

from colllm_ray.client_key import key_headers
from colllm_ray.data.chat import encode_prompt
from colllm_ray.data.rows import Message
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.answers import ChatAnswer, TraceToken
from colllm_ray.serving.api.attribution import trace_of
from colllm_ray.serving.api.requests import ChatMessage, ChatRequest
from colllm_ray.storage import Where

TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Attributed:
    """An answer's trace, and the members of the collaboration, the base first."""

    trace: list[TraceToken]
    members: list[str]


def ask_folder(folder: Where, prompt: str) -> Attributed:
    """The answer of a trained collaboration, with all its models loaded into this process."""
    trained = TrainedCollaboration.load(folder)
    tokenizer = load_tokenizer(trained.collaboration.base)
    request = AnswerRequest(tuple(encode_prompt([Message(role="user", content=prompt)], tokenizer)))
    team = Team.in_process(trained)

    async def answer() -> list[WrittenToken]:
        return [token async for token in team.answer(request)]

    members = list(trained.collaboration.members)
    return Attributed(trace_of(asyncio.run(answer()), members, tokenizer, team.spec.eta(request)), members)


def ask_server(url: str, prompt: str) -> Attributed:
    """The answer of a running server at `url`, such as "http://127.0.0.1:8000"."""
    request = ChatRequest(messages=[ChatMessage(role="user", content=prompt)])
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/v1/chat/completions",
            json=request.model_dump(mode="json", exclude_defaults=True),
            headers=key_headers(),
            timeout=TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise ColllmError(f"{url}: cannot be reached: {error}") from error
    if response.status_code != httpx.codes.OK:
        raise ColllmError(f"{url}: refused with status {response.status_code}: {response.text}")
    answer = ChatAnswer.model_validate_json(response.content)
    return Attributed(answer.choices[0].colllm.trace or [], list(answer.usage.colllm.models))
