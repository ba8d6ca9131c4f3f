"""The requests: OpenAI's fields, and ours in `colllm`. A field that is not here is refused."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from colllm_ray.data.rows import SPEAKER, Message
from colllm_ray.engine.messages import MOST_TOP, Sampling
from colllm_ray.serving.api.neutral import (
    NeutralChatFields,
    NeutralCompletionFields,
    NeutralFields,
    NeutralTurnFields,
    No,
)
from colllm_ray.serving.api.request import Request, wrong

MAX_TEXTS = 4096  # of one request
MAX_ANSWERS = 128  # to one prompt
MAX_STOPS = 16
MAX_STOP_LENGTH = 1024  # characters
MAX_TOKENS = 2**18  # that are turned into text at once, or text into them
COMPLETION_TOKENS = 16  # of a completion that says nothing of its length, as OpenAI has it
SEEDS = 2**64
SPECIAL_TOKENS = "Of a text: whether the tokenizer adds those that begin one."

# `fail_fast`: one wrong entry of a million is enough to refuse them.
TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]


class Doubt(Request):
    """From where on a token is marked as one to double-check."""

    probability: float = Field(0.5, ge=0, le=1, description="Its author gave it less than this.")
    tie: float = Field(0.5, ge=0, description="The log-odds of p_defer and of the threshold are as near as this.")


class Extension(Request):
    """The `colllm` object of a request."""

    threshold: float | None = Field(None, ge=0, le=1, description="Above it an expert writes; 1 is the base alone.")
    budget: float | None = Field(None, ge=0, le=1, description="The share of tokens that experts write, instead.")
    experts: Annotated[list[str], Field(max_length=MAX_TEXTS, fail_fast=True)] | None = Field(
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
            raise wrong("threshold and budget say the same in two ways; give one of them", "threshold")
        return self


class StreamOptions(Request):
    """Of a stream."""

    include_usage: bool = Field(False, description="Whether a last chunk tells the usage.")
    continuous_usage_stats: bool = Field(False, description="Whether each chunk tells the usage so far.")
    include_obfuscation: No | None = Field(None, description="Chunks are not padded.")


class AnswerFields(NeutralFields):
    """What all requests for an answer have in common."""

    model: str | None = Field(None, description="The collaboration's name, or NAME/MEMBER for one model alone.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 is greedy, the default; 1 where only `top_p` is given."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Tokens are drawn from the likeliest that reach this; 0 is greedy."
    )
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="The same seed draws the same answer.")
    n: int | None = Field(None, ge=1, le=MAX_ANSWERS, description="Answers to the same prompt.")
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS, fail_fast=True)] | None = Field(
        None, description="The answer ends before the first of these texts."
    )
    stream: bool | None = Field(None, description="Whether the answer comes in pieces, as events.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    ignore_eos: bool = Field(False, description="Whether the answer goes on behind an end token.")
    user: str | None = Field(None, max_length=200, description="A name for the asker, which the log keeps.")
    colllm: Extension = Field(Extension(), description="What only a collaboration has.")

    @model_validator(mode="after")
    def _options_are_of_a_stream(self) -> AnswerFields:
        if self.stream_options is not None and not self.stream:
            raise wrong("only with `stream`", "stream_options")
        return self

    @property
    def samplings(self) -> list[Sampling | None]:
        """One for each of the `n` answers; None is greedy."""
        temperature = self.temperature
        if temperature is None:
            temperature = 0.0 if self.top_p is None else 1.0
        if not temperature or self.top_p == 0:
            return [None] * self.answers
        seed = secrets.randbits(63) if self.seed is None else self.seed
        first = Sampling(temperature, 1.0 if self.top_p is None else self.top_p)
        return [replace(first, seed=(seed + i) % SEEDS) for i in range(self.answers)]

    @property
    def answers(self) -> int:
        return self.n or 1

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def wants_usage_so_far(self) -> bool:
        """Whether each chunk of a stream has the usage up to there; as in vLLM, beside that of the end."""
        return self.wants_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats


class TextPart(Request):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(NeutralTurnFields):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="`developer` is as `system`.")
    content: str | Annotated[list[TextPart], Field(fail_fast=True)]
    name: str | None = Field(None, pattern=SPEAKER, description="Who speaks, for chat templates that write it.")

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def message(self) -> Message:
        return Message(role="system" if self.role == "developer" else self.role, content=self.text, name=self.name)


class ChatRequest(AnswerFields, NeutralChatFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(fail_fast=True)] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="Length of the answer at most; all the context by default.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same.")
    logprobs: bool | None = Field(None, description="Whether the log-prob of each token is told.")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP, description="And those of so many of the likeliest.")

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise wrong("only with `logprobs`", "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise wrong("max_tokens and max_completion_tokens differ; give one of them", "max_completion_tokens")
        return self

    @property
    def length(self) -> int | None:
        """Of the answer at most, in tokens."""
        return self.max_tokens or self.max_completion_tokens


class CompletionRequest(AnswerFields, NeutralCompletionFields):
    """`POST /v1/completions`."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
    ) = Field(description="Text or token ids, or several of one kind.")
    max_tokens: int | None = Field(None, ge=0, description=f"Length at most; {COMPLETION_TOKENS} by default.")
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP, description="Log-probs, and so many of the likeliest.")
    echo: bool | None = Field(None, description="Whether the prompt comes before the answer.")
    add_special_tokens: bool = Field(True, description=SPECIAL_TOKENS)

    @model_validator(mode="after")
    def _says_something(self) -> CompletionRequest:
        if self.length == 0 and not self.echo:
            raise wrong("at least 1; 0 only with `echo`", "max_tokens")
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
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] | None = None
    add_special_tokens: bool | None = Field(None, description=f"{SPECIAL_TOKENS} It does by default.")
    return_token_strs: bool = Field(False, description="Whether the text of each token is told.")

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise wrong("give either prompt or messages", "prompt")
        if self.messages is not None and self.add_special_tokens:
            raise wrong("the chat template says what messages begin with; leave it out", "add_special_tokens")
        return self


class DetokenizeRequest(Request):
    """`POST /detokenize`: token ids."""

    model: str | None = Field(None, description="Any of the models; they share a tokenizer.")
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS, fail_fast=True)]


class ScoredText(Request):
    """Token ids, and which of them are targets; the first cannot be one."""

    input_ids: Annotated[list[int], Field(fail_fast=True)] = Field(min_length=2)
    target_mask: Annotated[list[bool], Field(fail_fast=True)]

    @model_validator(mode="after")
    def _fits(self) -> ScoredText:
        if len(self.target_mask) != len(self.input_ids) or self.target_mask[0] or not any(self.target_mask):
            raise wrong("must say of each token whether it is a target, of the first that it is not", "target_mask")
        return self


class ScoreRequest(Request):
    """`POST /v1/colllm/scores`: what a member thinks of given texts."""

    member: str
    texts: Annotated[list[ScoredText], Field(fail_fast=True)] = Field(min_length=1, max_length=MAX_TEXTS)
