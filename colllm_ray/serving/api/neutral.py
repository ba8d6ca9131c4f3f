"""What other servers' APIs know and a collaboration does not: only the values with which nothing changes are taken.

Clients send these by default: openai, langchain-openai, litellm, lm-eval, guidellm, aiperf, those of vLLM and SGLang.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from colllm_ray.serving.api.request import Request


@dataclass(frozen=True)
class Neutral:
    """Marks a field that is not supported; `values`: those that are taken all the same, as a message names them."""

    values: str


class Nothing(Request):
    """An object that says nothing."""


class TextFormat(Request):
    """The only form of an answer."""

    type: Literal["text"]


def _only(right: bool) -> AfterValidator:
    def check(given: bool) -> bool:
        if given is not right:
            raise ValueError(f"must be {str(right).lower()}")
        return given

    return AfterValidator(check)


# Not Literal, which takes 0 for false, and 1 for true.
No = Annotated[bool, _only(False), Field(json_schema_extra={"const": False})]
Yes = Annotated[bool, _only(True), Field(json_schema_extra={"const": True})]
Empty = Annotated[list[None], Field(max_length=0)]
Naught = Annotated[int, Field(ge=0, le=0)]
Single = Annotated[int, Field(ge=1, le=1)]
Unlimited = Annotated[int, Field(ge=-1, le=0)]
Zero = Annotated[float, Field(ge=0, le=0)]
One = Annotated[float, Field(ge=1, le=1)]
NO = Neutral("false")
YES = Neutral("true")
ZERO = Neutral("0")
ONE = Neutral("1")
NONE = Neutral("null")
EMPTY = Neutral("[]")
NOTHING = Neutral("{}")
OFF = Field(None, description="Not supported; only the values that change nothing are taken.")


class NeutralFields(Request):
    """Of requests for answers."""

    frequency_penalty: Annotated[Zero | None, ZERO] = OFF
    presence_penalty: Annotated[Zero | None, ZERO] = OFF
    repetition_penalty: Annotated[One | None, ONE] = OFF
    length_penalty: Annotated[One | None, ONE] = OFF
    early_stopping: Annotated[No | None, NO] = OFF
    use_beam_search: Annotated[No | None, NO] = OFF
    best_of: Annotated[Single | None, ONE] = OFF
    top_k: Annotated[Unlimited | None, Neutral("-1 or 0")] = OFF
    min_p: Annotated[Zero | None, ZERO] = OFF
    min_tokens: Annotated[Naught | None, ZERO] = OFF
    logit_bias: Annotated[Nothing | None, NOTHING] = OFF
    stop_token_ids: Annotated[Empty | None, EMPTY] = OFF
    bad_words: Annotated[Empty | None, EMPTY] = OFF
    logits_processors: Annotated[Empty | None, EMPTY] = OFF
    include_stop_str_in_output: Annotated[No | None, NO] = OFF
    skip_special_tokens: Annotated[Yes | None, YES] = OFF
    spaces_between_special_tokens: Annotated[Yes | None, YES] = OFF
    detokenize: Annotated[Yes | None, YES] = OFF
    return_token_ids: Annotated[No | None, NO] = OFF
    return_tokens_as_token_ids: Annotated[No | None, NO] = OFF
    priority: Annotated[Naught | None, ZERO] = OFF
    response_format: Annotated[TextFormat | None, Neutral('{"type": "text"}')] = OFF
    store: Annotated[No | None, NO] = OFF
    metadata: Annotated[Nothing | None, NOTHING] = OFF
    service_tier: Annotated[Literal["auto", "default"] | None, Neutral('"auto" or "default"')] = OFF


class NeutralChatFields(NeutralFields):
    """Of requests for answers in a conversation."""

    tools: Annotated[Empty | None, EMPTY] = OFF
    tool_choice: Annotated[Literal["none", "auto"] | None, Neutral('"none" or "auto"')] = OFF
    parallel_tool_calls: Annotated[bool | None, Neutral("true or false")] = OFF
    functions: Annotated[Empty | None, EMPTY] = OFF
    function_call: Annotated[Literal["none", "auto"] | None, Neutral('"none" or "auto"')] = OFF
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None, Neutral('["text"]')
    ] = OFF
    reasoning_effort: Annotated[Literal["none"] | None, Neutral('"none"')] = OFF
    verbosity: Annotated[Literal["medium"] | None, Neutral('"medium"')] = OFF
    echo: Annotated[No | None, NO] = OFF
    add_generation_prompt: Annotated[Yes | None, YES] = OFF
    continue_final_message: Annotated[No | None, NO] = OFF
    add_special_tokens: Annotated[No | None, NO] = OFF
    documents: Annotated[Empty | None, EMPTY] = OFF
    chat_template_kwargs: Annotated[Nothing | None, NOTHING] = OFF


class NeutralCompletionFields(NeutralFields):
    """Of requests for answers that go on with texts."""

    suffix: Annotated[Literal[""] | None, Neutral('""')] = OFF


class NeutralTurnFields(Request):
    """Of a turn of a conversation; an assistant's comes as a server sent it."""

    type: Annotated[Literal["text", "message"] | None, Neutral('"text" or "message"')] = OFF
    refusal: Annotated[None, NONE] = OFF
    audio: Annotated[None, NONE] = OFF
    function_call: Annotated[None, NONE] = OFF
    tool_call_id: Annotated[None, NONE] = OFF
    tool_calls: Annotated[Empty | None, EMPTY] = OFF
    annotations: Annotated[Empty | None, EMPTY] = OFF


def neutral_values(*models: type[Request]) -> dict[str, str]:
    """The values that are taken of each field that is not supported."""
    return {
        name: mark.values
        for model in models
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Neutral)
    }


NOT_SUPPORTED = neutral_values(NeutralChatFields, NeutralCompletionFields)
NOT_SUPPORTED_IN_TURNS = neutral_values(NeutralTurnFields)
