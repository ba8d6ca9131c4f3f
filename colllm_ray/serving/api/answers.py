"""The answers: OpenAI's fields, and ours in `colllm`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Reason = Literal["stop", "length"]
Doubtful = Literal["unsure", "tie"]


class TraceToken(BaseModel):
    """One token: its id, the text that it adds, who wrote it, d_t (null where one model wrote alone), its log-prob.

    doubt: why it should be checked: its author was `unsure` of it, or who should write it was nearly a `tie`.
    """

    token: int
    text: str
    model: str
    p_defer: float | None
    logprob: float
    doubt: Doubtful | None = None


class Span(BaseModel):
    """A piece of the answer to double-check: tokens `start` to before `end` of the trace, which are marked."""

    start: int
    end: int
    text: str


class Attribution(BaseModel):
    """Who wrote what; a chunk's trace goes on from the one before it, and the last chunk has the rest.

    lost: experts that failed under the answer, which went on without them.
    """

    trace: list[TraceToken] | None = None
    double_check: list[Span] | None = None
    lost: list[str] | None = None


class TopLogprob(BaseModel):
    """A token as text, its log-prob, and its bytes; null where it is a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """One entry a token."""

    content: list[TokenLogprob]


class CompletionLogprobs(BaseModel):
    """One entry a token; the first of a text has nothing before it, and no log-prob."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class MemberUsage(BaseModel):
    """tokens: that the model wrote; calls: questions that it was asked."""

    tokens: int
    calls: int


class Costs(BaseModel):
    """By member; seconds from when the request came to the first token, and until now."""

    models: dict[str, MemberUsage]
    first_token_s: float | None
    time_s: float


class Usage(BaseModel):
    """Tokens of all prompts and of all answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    colllm: Costs


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One of the `n` answers."""

    index: int
    message: AssistantMessage
    finish_reason: Reason
    logprobs: ChatLogprobs | None
    colllm: Attribution


class ChatAnswer(BaseModel):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    """One of the answers: those to the first prompt come first."""

    index: int
    text: str
    finish_reason: Reason | None
    logprobs: CompletionLogprobs | None
    colllm: Attribution


class CompletionAnswer(BaseModel):
    """OpenAI's text completion, and a chunk of one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Delta(BaseModel):
    """What a chunk adds to its answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """What a chunk adds."""

    index: int
    delta: Delta
    finish_reason: Reason | None = None
    logprobs: ChatLogprobs | None = None
    colllm: Attribution | None = None


class ChatChunk(BaseModel):
    """OpenAI's chunk of a chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class Model(BaseModel):
    """A name that `model` may have."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    max_model_len: int


class ModelList(BaseModel):
    """All of them, the collaboration first."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """The router answers."""

    status: Literal["ok"] = "ok"


class Tokens(BaseModel):
    """A text's tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizedText(BaseModel):
    """The text of tokens, special ones by their names."""

    prompt: str


class TokenizerInfo(BaseModel):
    """What a client needs to know of the tokenizer that all members share."""

    tokenizer_class: str
    vocab_size: int
    model_max_length: int
    bos_token: str | None
    eos_token: str
    pad_token: str | None
    unk_token: str | None
    chat_template: str | None


class TextScores(BaseModel):
    """One entry a target: natural log-prob, and whether it is the member's likeliest token; or why there are none."""

    gold_logprob: list[float] = []
    top1: list[bool] = []
    error: str | None = None


class ScoreAnswer(BaseModel):
    """One entry a text."""

    scores: list[TextScores]


class MemberOrigin(BaseModel):
    """The weights that a member runs with."""

    revision: str
    dtype: str


class ThresholdAt(BaseModel):
    """The threshold that lets experts write a share of the tokens, on the validation data."""

    share: float
    threshold: float


class Description(BaseModel):
    """What a page needs to know of the collaboration: its members, the base first, and its threshold."""

    name: str
    members: list[str]
    threshold: float
    budgets: list[ThresholdAt]
    max_model_len: int
