"""The routes."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

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
from colllm_ray.serving.api.chat import Chat
from colllm_ray.serving.api.completions import Completions
from colllm_ray.serving.api.door import Door
from colllm_ray.serving.api.errors import ApiError, ErrorBody
from colllm_ray.serving.api.guard import note_of
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.api.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    ScoreRequest,
    TokenizeRequest,
)
from colllm_ray.serving.api.streams import EventStream
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
    refusals = _refusals(400, 404, 413, 429, 503, 504)

    @app.post("/v1/chat/completions", responses={200: _whole_or_streamed(ChatAnswer), **refusals}, response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Goes on with a conversation."""
        note = note_of(request)
        door.admission.check(body.answers)
        asked = Chat(door, body, note.since)
        note.answers(body, asked.bill)
        parts = asked.parts()
        if body.stream:
            return await EventStream.begun(asked.chunks(parts))
        return _json(await asked.whole(parts))

    @app.post("/v1/completions", responses={200: _whole_or_streamed(CompletionAnswer), **refusals}, response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Goes on with texts."""
        note = note_of(request)
        door.admission.check(body.answers * len(body.prompts))
        asked = Completions(door, body, note.since)
        note.answers(body, asked.bill)
        echoes = await asked.echoes()
        parts = asked.parts()
        if body.stream:
            return await EventStream.begun(asked.chunks(echoes, parts))
        return _json(await asked.whole(echoes, parts))


def _add_tokenizer(app: FastAPI, door: Door) -> None:
    refusals = _refusals(400, 404, 413)

    @app.post("/tokenize", responses=refusals)
    async def tokenize(body: TokenizeRequest) -> Tokens:
        """Text to token ids."""
        door.member(body.model)
        if body.messages is not None:
            ids = door.encode_chat(body.messages)
        else:
            ids = door.encode(body.prompt or "", body.add_special_tokens)
        strings = [door.vocabulary.text(token) for token in ids] if body.return_token_strs else None
        return Tokens(count=len(ids), max_model_len=door.spec.context, tokens=ids, token_strs=strings)

    @app.post("/detokenize", responses=refusals)
    async def detokenize(body: DetokenizeRequest) -> DetokenizedText:
        """Token ids to text."""
        door.member(body.model)
        if body.tokens:
            door.spec.check_tokens(body.tokens)
        return DetokenizedText(prompt=str(door.tokenizer.decode(body.tokens)))

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
            chat_template=tokenizer.chat_template,
        )


def _add_collaboration(app: FastAPI, door: Door) -> None:
    spec = door.spec

    def model(name: str) -> Model:
        return Model(id=name, created=door.created, owned_by=spec.name, max_model_len=spec.context)

    @app.get("/health", responses=_documented(503))
    async def health() -> Health:
        """Whether a router answers."""
        await door.check_router()
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
            raise ApiError(HTTPStatus.NOT_FOUND, f"there is no member {member!r}; there are: {', '.join(spec.members)}")
        revision, dtype = await door.origin(member)
        return MemberOrigin(revision=revision, dtype=dtype)

    @app.post("/v1/colllm/scores", responses=_refusals(400, 413, 503, 504))
    async def score(body: ScoreRequest) -> ScoreAnswer:
        """What a member thinks of given texts."""
        spec.author_of(body.member)
        for text in body.texts:
            spec.check_text(text.input_ids)
        scores = await door.score(body.member, [Text(text.input_ids, text.target_mask) for text in body.texts])
        return ScoreAnswer(scores=[_text_scores(one) for one in scores])


def _text_scores(scores: GoldScores | str) -> TextScores:
    if isinstance(scores, str):
        return TextScores(error=scores)
    return TextScores(gold_logprob=list(scores.gold_logprob), top1=list(scores.top1))


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


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
