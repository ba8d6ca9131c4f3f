"""One question to a collaboration's folder: `colllm ask RUN/collaboration`, without Ray."""

from __future__ import annotations

import asyncio

from colllm_ray.data.chat import encode_prompt
from colllm_ray.data.rows import Message
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.serving.api.answer_text import pieces_of
from colllm_ray.serving.api.attribution import trace_of
from colllm_ray.serving.ask_server import Attributed
from colllm_ray.storage import Where


def ask_folder(folder: Where, prompt: str) -> Attributed:
    """The answer of a trained collaboration, with all its models loaded into this process."""
    trained = TrainedCollaboration.load(folder)
    tokenizer = load_tokenizer(trained.collaboration.base)
    request = AnswerRequest(tuple(encode_prompt([Message(role="user", content=prompt)], tokenizer)))
    team = Team.in_process(trained)

    async def answer() -> list[WrittenToken]:
        return [token async for token in team.answer(request)]

    members = list(trained.collaboration.members)
    pieces = pieces_of(asyncio.run(answer()), request.prompt, tokenizer, team.spec.ends(request))
    return Attributed(trace_of(pieces, members, team.spec.eta(request)), members)
