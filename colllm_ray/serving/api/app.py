"""The routes."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from colllm_ray import __version__
from colllm_ray.config import ServingConfig
from colllm_ray.engine.text import GoldScores, Text
from colllm_ray.serving.api import errors, guard, page
from colllm_ray.serving.api.answers import (
    ChatAnswer,
    CompletionAnswer,
    Description,
    DetokenizedText,
    Health,
    MemberOrigin,
    Model,
    ModelList,
    ScoreAnswer,
    TextScores,
    ThresholdAt,
    TokenizerInfo,
    Tokens,
)
from colllm_ray.serving.api.aside import aside
from colllm_ray.serving.api.bodies import reading_route
from colllm_ray.serving.api.chat import Chat
from colllm_ray.serving.api.completions import Completions
from colllm_ray.serving.api.door import Door
from colllm_ray.serving.api.errors import ApiError, ErrorBody, naming
from colllm_ray.serving.api.guard import note_of
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.api.request import shown
from colllm_ray.serving.api.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    ScoreRequest,
    TokenizeRequest,
)
from colllm_ray.serving.api.streams import EventStream
from colllm_ray.serving.api.wholes import as_json, whole
from colllm_ray.serving.metrics import IngressMetrics

BUDGETS = 20  # steps of the shares whose thresholds are described

EVENT = {
    "type": "object",
    "description": "A chunk of the answer as JSON, an error, or `[DONE]`.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}
REFUSALS = {
    400: "A field is wrong, or the prompt too long.",
    401: "The API key is missing or wrong.",
    404: "There is no such model.",
    413: "The request is too large.",
    415: "The request's content type is not `application/json`.",
    429: "Too many answers wait; try again after `Retry-After` seconds.",
    503: "No router, or no expert, can go on with it.",
    504: "The answer took too long.",
}


def build_app(door: Door, config: ServingConfig, keys: KeyHashes, metrics: IngressMetrics) -> FastAPI:
    """The HTTP application of one collaboration."""
    app = FastAPI(
        title="colllm_ray",
        summary="Several language models write one answer together.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    app.router.route_class = reading_route(door.spec.context, config.max_answers + config.max_waiting)
    errors.install(app)
    _add_answers(app, door)
    _add_tokenizer(app, door)
    _add_collaboration(app, door)
    if config.page:
        page.add(app)
    guard.add(app, config, keys, metrics)
    _describe(app)
    return app


def _add_answers(app: FastAPI, door: Door) -> None:
    refusals = _refusals(400, 404, 413, 415, 429, 503, 504)

    @app.post("/v1/chat/completions", responses={200: _whole_or_streamed(ChatAnswer), **refusals}, response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Goes on with a conversation."""
        note = note_of(request)
        door.admission.check(body.answers)
        asked = await Chat.asked(door, body, note.since)
        note.answers(body, asked.bill)
        parts = asked.parts()
        if body.stream:
            return await EventStream.begun(asked.chunks(parts))
        return await whole(await asked.whole(parts))

    @app.post("/v1/completions", responses={200: _whole_or_streamed(CompletionAnswer), **refusals}, response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Goes on with texts."""
        note = note_of(request)
        door.admission.check(body.answers * len(body.prompts))
        asked = await Completions.asked(door, body, note.since)
        note.answers(body, asked.bill)
        echoes = await asked.echoes()
        parts = asked.parts()
        if body.stream:
            return await EventStream.begun(asked.chunks(echoes, parts))
        return await whole(await asked.whole(echoes, parts))


def _add_tokenizer(app: FastAPI, door: Door) -> None:
    refusals = _refusals(400, 404, 413, 415)

    @app.post("/tokenize", responses={200: {"model": Tokens}, **refusals}, response_model=None)
    async def tokenize(body: TokenizeRequest) -> Response:
        """Text to token ids."""
        door.member(body.model)
        if body.messages is not None:
            ids = await door.encoder.chat(body.messages)
        else:
            ids = await door.encoder.text(body.prompt or "", body.add_special_tokens is not False)

        def told() -> Response:
            strings = [door.vocabulary.text(token) for token in ids] if body.return_token_strs else None
            return as_json(Tokens(count=len(ids), max_model_len=door.spec.context, tokens=ids, token_strs=strings))

        return await aside(len(ids), told)

    @app.post("/detokenize", responses=refusals)
    async def detokenize(body: DetokenizeRequest) -> DetokenizedText:
        """Token ids to text."""
        door.member(body.model)
        if body.tokens:
            with naming("tokens"):
                door.spec.check_tokens(body.tokens)
        return DetokenizedText(prompt=await aside(len(body.tokens), door.tokenizer.decode, body.tokens))

    @app.get("/tokenizer_info", responses=_refusals())
    async def tokenizer_info() -> TokenizerInfo:
        """What a client needs to know to encode as the models do."""
        tokenizer = door.tokenizer
        return TokenizerInfo(
            tokenizer_class=type(tokenizer).__name__,
            vocab_size=door.spec.vocab_size,
            model_max_length=door.spec.context,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.pad_token,
            unk_token=tokenizer.unk_token,
            chat_template=_template(tokenizer),
        )


def _add_collaboration(app: FastAPI, door: Door) -> None:
    spec = door.spec

    def model(name: str) -> Model:
        return Model(id=name, created=door.created, owned_by=spec.name, max_model_len=spec.context)

    @app.get("/health", responses=_documented(503))
    async def health() -> Health:
        """Whether a router answers, and all experts have started."""
        await door.check_health()
        return Health()

    @app.get("/v1/models", responses=_refusals())
    async def models() -> ModelList:
        """The names that `model` may have."""
        return ModelList(data=[model(name) for name in door.models])

    @app.get("/v1/models/{name:path}", responses=_refusals(404))
    async def one_model(name: str) -> Model:
        """One of them."""
        door.member(name)
        return model(name)

    @app.get("/v1/colllm", responses=_refusals())
    async def description() -> Description:
        """The members, and what thresholds do."""
        calibration = spec.trained.calibration
        steps = BUDGETS if calibration.knows_shares else 1
        shares = [i / steps for i in range(steps + 1)]
        return Description(
            name=spec.name,
            members=list(spec.members),
            threshold=calibration.threshold,
            budgets=[ThresholdAt(share=share, threshold=calibration.threshold_for(share)) for share in shares],
            max_model_len=spec.context,
        )

    @app.get("/v1/colllm/members/{member}", responses=_refusals(404, 503, 504))
    async def origin(member: str) -> MemberOrigin:
        """The weights that a member runs with."""
        if member not in spec.members:
            message = f"there is no member {shown(member)!r}; there are: {', '.join(spec.members)}"
            raise ApiError(HTTPStatus.NOT_FOUND, message, param="member", code="model_not_found")
        revision, dtype = await door.origin(member)
        return MemberOrigin(revision=revision, dtype=dtype)

    @app.post("/v1/colllm/scores", responses=_refusals(400, 413, 415, 503, 504))
    async def score(body: ScoreRequest) -> ScoreAnswer:
        """What a member thinks of given texts."""
        with naming("member"):
            spec.author_of(body.member)
        for i, text in enumerate(body.texts):
            with naming(f"texts.{i}.input_ids"):
                spec.check_text(text.input_ids)
        scores = await door.score(body.member, [Text(text.input_ids, text.target_mask) for text in body.texts])
        return ScoreAnswer(scores=[_text_scores(one) for one in scores])


def _text_scores(scores: GoldScores | str) -> TextScores:
    if isinstance(scores, str):
        return TextScores(error=scores)
    return TextScores(gold_logprob=list(scores.gold_logprob), top1=list(scores.top1))


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text of the chat template: of several ones that have names, of the default."""
    templates = tokenizer.chat_template
    return templates.get("default") if isinstance(templates, dict) else templates


def _whole_or_streamed(answer: type[BaseModel]) -> dict[str, object]:
    return {"model": answer, "content": {"text/event-stream": {"schema": EVENT}}}


def _refusals(*statuses: int) -> dict[int | str, dict[str, object]]:
    """How the refusals of a route that wants a key are documented."""
    return _documented(401, *statuses)


def _documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    return {status: {"model": ErrorBody, "description": REFUSALS[status]} for status in statuses}


def _describe(app: FastAPI) -> None:
    """Documents what the routes do: all refusals have one shape, and there is none with status 422."""
    document = app.openapi()
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
