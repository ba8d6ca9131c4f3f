"""The HTTP door: checks requests, turns text into tokens and back, and owns the request."""

# No `from __future__ import annotations`: FastAPI reads the types of a method that Serve has wrapped.

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from colllm_ray.data.chat import encode_prompt
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team import AnswerRequest, TeamSpec
from colllm_ray.engine.target_scores import GoldScores, Text
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api import (
    ChatAnswer,
    ChatRequest,
    MemberOrigin,
    ScoreAnswer,
    ScoreRequest,
    TextScores,
    chat_answer,
)
from colllm_ray.serving.router import router_client

app = FastAPI(title="colllm_ray", docs_url=None, redoc_url=None)


class UnknownModelError(ColllmError):
    """A request for a model that this application does not serve."""


@app.exception_handler(RequestValidationError)
async def _refuse_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [f"{'.'.join(str(part) for part in p['loc'][1:])}: {p['msg']}" for p in error.errors()]
    return _refusal(400, "; ".join(problems))


@app.exception_handler(ColllmError)
async def _refuse(_request: Request, error: ColllmError) -> JSONResponse:
    return _refusal(404 if isinstance(error, UnknownModelError) else 400, str(error))


async def _unless_left(response: DeploymentResponse) -> Any:
    """What the router answers; a client that leaves ends its work."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _text_scores(scores: GoldScores | str) -> TextScores:
    if isinstance(scores, str):
        return TextScores(error=scores)
    return TextScores(gold_logprob=list(scores.gold_logprob), top1=list(scores.top1))


def _refusal(status: int, message: str) -> JSONResponse:
    """An error in OpenAI's shape."""
    return JSONResponse(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, status
    )


# Below the handlers: Serve takes a copy of the app as it is when it meets the class.
@serve.deployment
@serve.ingress(app)
class Ingress:
    """Serves one collaboration, under its name and with each member under NAME/MEMBER."""

    def __init__(self, spec: TeamSpec, router: DeploymentHandle) -> None:
        self._spec = spec
        self._name = spec.trained.collaboration.name
        self._tokenizer = load_tokenizer(spec.trained.collaboration.base)
        self._router = router_client(router)

    @app.post("/v1/chat/completions")
    async def chat(self, request: ChatRequest) -> ChatAnswer:
        model = request.model or self._name
        answer = AnswerRequest(
            prompt=tuple(encode_prompt(request.messages, self._tokenizer)),
            max_tokens=request.max_tokens,
            member=self._member(model),
            sampling=request.sampling,
            run_ahead=request.colllm.run_ahead,
        )
        self._spec.tokens_left(answer)  # refused here, before anything is decoded
        written = await _unless_left(self._router.answer.remote(answer))
        return chat_answer(model, len(answer.prompt), written, self._spec, self._tokenizer)

    @app.get("/v1/colllm/members/{member}")
    async def origin(self, member: str) -> MemberOrigin:
        self._spec.author_of(member)
        revision, dtype = await self._router.origin.remote(member)
        return MemberOrigin(revision=revision, dtype=dtype)

    @app.post("/v1/colllm/scores")
    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        self._spec.author_of(request.member)
        for text in request.texts:
            self._spec.check_text(text.input_ids)
        texts = [Text(text.input_ids, text.target_mask) for text in request.texts]
        scores = await _unless_left(self._router.score.remote(request.member, texts))
        return ScoreAnswer(scores=[_text_scores(one) for one in scores])

    def _member(self, model: str) -> str | None:
        """The member that `model` names, None for the collaboration itself."""
        names = {self._name: None, **{f"{self._name}/{member}": member for member in self._spec.members}}
        if model not in names:
            raise UnknownModelError(f"there is no model {model!r} here; there are: {', '.join(names)}")
        return names[model]
