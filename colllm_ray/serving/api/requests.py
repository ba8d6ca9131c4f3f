"""The requests: OpenAI's fields, and ours in `colllm`. A field that is not here is refused."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from colllm_ray.data.rows import Message
from colllm_ray.engine.messages import MOST_TOP, Sampling

MAX_TEXTS = 4096  # of one request
MAX_ANSWERS = 128  # to one prompt
MAX_STOPS = 16
COMPLETION_TOKENS = 16  # of a completion that says nothing of its length, as OpenAI has it


def _whole(text: str) -> str:
    """Refuses half of a surrogate pair, which JSON can say and no tokenizer takes."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a character (a lone surrogate)")
    return text


# `fail_fast`: one wrong entry of a million is enough to refuse them.
Text = Annotated[str, AfterValidator(_whole)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


class Request(BaseModel):
    """Fields that are known, of just the types that they have in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Doubt(Request):
    """From where on a token is marked as one to double-check."""

    probability: float = Field(0.5, ge=0, le=1, description="Its author gave it less than this.")
    tie: float = Field(0.5, ge=0, description="The log-odds of p_defer and of the threshold are as near as this.")


class Extension(Request):
    """The `colllm` object of a request."""

    threshold: float | None = Field(None, ge=0, le=1, description="Above it an expert writes; 1 is the base alone.")
    budget: float | None = Field(None, ge=0, le=1, description="The share of tokens that experts write, instead.")
    experts: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, description="The experts that may write; all by default."
    )
    policy: Literal["continue", "fail"] = Field(
        "continue", description="Whether the answer goes on without an expert that is lost, or fails."
    )
    wait_s: float | None = Field(
        None, ge=0, description="Seconds to wait for an expert of which no copy runs, before it counts as lost."
    )
    run_ahead: Literal["auto", "off"] = Field("auto", description="Whether models work ahead; the answer is the same.")
    trace: bool = Field(True, description="Whether the answer tells of each token who wrote it.")
    doubt: Doubt = Field(Doubt(), description="From where on a token is marked as one to double-check.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Extension:
        if self.threshold is not None and self.budget is not None:
            raise ValueError("threshold and budget say the same in two ways; give one of them")
        return self


class StreamOptions(Request):
    """Of a stream."""

    include_usage: bool = Field(False, description="Whether a last chunk tells the usage.")
    include_obfuscation: Literal[False] = Field(False, description="Chunks are not padded.")


class AnswerFields(Request):
    """What all requests for an answer have in common."""

    model: str | None = Field(None, description="The collaboration's name, or NAME/MEMBER for one model alone.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 is greedy, the default; 1 where only `top_p` is given."
    )
    top_p: float | None = Field(None, gt=0, le=1, description="Tokens are drawn from the likeliest that reach this.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="The same seed draws the same answer.")
    n: int | None = Field(None, ge=1, le=MAX_ANSWERS, description="Answers to the same prompt.")
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS, fail_fast=True)]
        | None
    ) = Field(None, description="The answer ends before the first of these texts.")
    stream: bool | None = Field(None, description="Whether the answer comes in pieces, as events.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    ignore_eos: bool = Field(False, description="Whether the answer goes on behind an end token.")
    user: str | None = Field(None, max_length=200, description="A name for the asker, which the log keeps.")
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(None, description="Not supported.")
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(None, description="Not supported.")
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(None, description="Not supported.")
    colllm: Extension = Field(Extension(), description="What only a collaboration has.")

    @model_validator(mode="after")
    def _options_are_of_a_stream(self) -> AnswerFields:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with `stream`")
        return self

    @property
    def samplings(self) -> list[Sampling | None]:
        """One for each of the `n` answers; None is greedy."""
        temperature = self.temperature
        if temperature is None:
            temperature = 0.0 if self.top_p is None else 1.0
        if not temperature:
            return [None] * self.answers
        seed = secrets.randbits(63) if self.seed is None else self.seed
        first = Sampling(temperature, 1.0 if self.top_p is None else self.top_p, seed)
        return [replace(first, seed=(seed + i) % 2**63) for i in range(self.answers)]

    @property
    def answers(self) -> int:
        return self.n or 1

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        """Whether a stream tells its usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(Request):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class ChatMessage(Request):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(fail_fast=True)]

    @property
    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role=self.role, content=text)


class TextFormat(Request):
    """The only form of an answer."""

    type: Literal["text"]


class ChatRequest(AnswerFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(fail_fast=True)] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="Length of the answer at most; all the context by default.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same.")
    logprobs: bool | None = Field(None, description="Whether the log-prob of each token is told.")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP, description="And those of so many of the likeliest.")
    response_format: TextFormat | None = Field(None, description="Text.")

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: only with `logprobs`")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        return self

    @property
    def length(self) -> int | None:
        """Of the answer at most, in tokens."""
        return self.max_tokens or self.max_completion_tokens


class CompletionRequest(AnswerFields):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
    ) = Field(description="Text or token ids, or several of one kind.")
    max_tokens: int | None = Field(None, ge=0, description=f"Length at most; {COMPLETION_TOKENS} by default.")
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP, description="Log-probs, and so many of the likeliest.")
    echo: bool | None = Field(None, description="Whether the prompt comes before the answer.")
    best_of: Annotated[int, Field(ge=1, le=1)] | None = Field(None, description="Not supported.")
    suffix: None = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _says_something(self) -> CompletionRequest:
        if self.length == 0 and not self.echo:
            raise ValueError("max_tokens: at least 1; 0 only with `echo`")
        return self

    @property
    def length(self) -> int:
        """Of the answer at most, in tokens."""
        return COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str | list[int]]:
        prompt: Any = self.prompt
        several = isinstance(prompt, list) and not isinstance(prompt[0], int)
        return prompt if several else [prompt]


class TokenizeRequest(Request):
    """`POST /tokenize`: a text, or a conversation as the chat template writes it."""

    model: str | None = Field(None, description="Any of the models; they share a tokenizer.")
    prompt: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] | None = None
    add_special_tokens: bool = Field(True, description="Of a text: whether the tokenizer adds those that begin one.")
    return_token_strs: bool = Field(False, description="Whether the text of each token is told.")

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.messages is not None and "add_special_tokens" in self.model_fields_set:
            raise ValueError("add_special_tokens: the chat template says what messages begin with; leave it out")
        return self


class DetokenizeRequest(Request):
    """`POST /detokenize`: token ids."""

    model: str | None = Field(None, description="Any of the models; they share a tokenizer.")
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True)]


class ScoredText(Request):
    """Token ids, and which of them are targets; the first cannot be one."""

    input_ids: Annotated[list[int], Field(fail_fast=True)] = Field(min_length=2)
    target_mask: Annotated[list[bool], Field(fail_fast=True)]

    @model_validator(mode="after")
    def _fits(self) -> ScoredText:
        if len(self.target_mask) != len(self.input_ids) or self.target_mask[0] or not any(self.target_mask):
            raise ValueError("target_mask: must say of each token whether it is a target, of the first that it is not")
        return self


class ScoreRequest(Request):
    """`POST /v1/colllm/scores`: what a member thinks of given texts."""

    member: str
    texts: Annotated[list[ScoredText], Field(fail_fast=True)] = Field(min_length=1, max_length=MAX_TEXTS)
