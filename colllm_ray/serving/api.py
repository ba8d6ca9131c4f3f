"""What goes over HTTP: the chat completion request and its answer, OpenAI's fields and ours."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, model_validator
from transformers import PreTrainedTokenizerBase

from colllm_ray.data.rows import Message
from colllm_ray.data.text import pieces_of, text_of
from colllm_ray.decoding.team import TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.messages import Sampling

MAX_TEXTS = 4096  # of one request for scores


class Extension(BaseModel):
    """The `colllm` object of a request."""

    model_config = ConfigDict(extra="forbid")

    run_ahead: Literal["auto", "off"] = Field("auto", description="Whether models work ahead; the answer is the same.")


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`; a field that is not here is refused."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Message] = Field(min_length=1)
    model: str | None = Field(None, description="The collaboration's name, or NAME/MEMBER for one model alone.")
    max_tokens: int | None = Field(None, ge=1, description="Length of the answer at most; all the context by default.")
    temperature: float = Field(0, ge=0, le=2, description="0 is greedy: each token is its author's likeliest.")
    top_p: float = Field(1, gt=0, le=1, description="Tokens are drawn from the likeliest that together reach this.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="The same seed draws the same answer.")
    stream: Literal[False] = Field(False, description="The answer comes whole.")
    colllm: Extension = Field(Extension(), description="What only a collaboration has.")

    @property
    def sampling(self) -> Sampling | None:
        """None is greedy."""
        if self.temperature == 0:
            return None
        return Sampling(self.temperature, self.top_p, secrets.randbits(63) if self.seed is None else self.seed)


class ScoredText(BaseModel):
    """Token ids, and which of them are targets; the first cannot be one."""

    model_config = ConfigDict(extra="forbid")

    input_ids: list[int] = Field(min_length=2)
    target_mask: list[bool]

    @model_validator(mode="after")
    def _fits(self) -> ScoredText:
        if len(self.target_mask) != len(self.input_ids) or self.target_mask[0] or not any(self.target_mask):
            raise ValueError("target_mask: must say of each token whether it is a target, of the first that it is not")
        return self


class ScoreRequest(BaseModel):
    """`POST /v1/colllm/scores`: what a member thinks of given texts."""

    model_config = ConfigDict(extra="forbid")

    member: str
    texts: list[ScoredText] = Field(min_length=1, max_length=MAX_TEXTS)


class TextScores(BaseModel):
    """One entry a target: natural log-prob, and whether it is the member's likeliest token; or why there are none."""

    gold_logprob: list[float] = []
    top1: list[bool] = []
    error: str | None = None


class ScoreAnswer(BaseModel):
    """One entry a text."""

    scores: list[TextScores]


class MemberOrigin(BaseModel):
    """`GET /v1/colllm/members/NAME`: the weights that a member runs with."""

    revision: str
    dtype: str


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: Literal[0] = 0
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TraceToken(BaseModel):
    """One token: its id, the text that it adds, who wrote it, and d_t (null where one model wrote alone)."""

    token: int
    text: str
    model: str
    p_defer: float | None


class Attribution(BaseModel):
    """Who wrote what."""

    trace: list[TraceToken]
    tokens_by_model: dict[str, int]


class ChatAnswer(BaseModel):
    """OpenAI's chat completion, with `colllm` beside it."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    colllm: Attribution


def attribution(
    written: Sequence[WrittenToken], members: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> Attribution:
    """The trace of an answer; `members` in the order of the head's choices."""
    pieces = pieces_of([token.token for token in written], tokenizer)
    trace = [
        TraceToken(token=token.token, text=piece, model=members[token.author], p_defer=token.p_defer)
        for token, piece in zip(written, pieces, strict=True)
    ]
    counts = {name: sum(token.author == k for token in written) for k, name in enumerate(members)}
    return Attribution(trace=trace, tokens_by_model=counts)


def chat_answer(
    model: str,
    prompt_tokens: int,
    written: Sequence[WrittenToken],
    spec: TeamSpec,
    tokenizer: PreTrainedTokenizerBase,
) -> ChatAnswer:
    """The answer to a chat request; it ended by itself where its last token is an end token."""
    ended = bool(written) and written[-1].token in spec.end_tokens
    text = text_of([token.token for token in written], tokenizer)
    return ChatAnswer(
        id=f"chatcmpl-{uuid4().hex}",
        created=int(time.time()),
        model=model,
        choices=[Choice(message=AssistantMessage(content=text), finish_reason="stop" if ended else "length")],
        usage=Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=len(written),
            total_tokens=prompt_tokens + len(written),
        ),
        colllm=attribution(written, list(spec.members), tokenizer),
    )
