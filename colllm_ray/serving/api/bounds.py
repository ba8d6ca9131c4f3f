"""What a collaboration can never answer, as bounds on the fields of requests: what exceeds them is not read on."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field, create_model

from colllm_ray.serving.api.request import Request
from colllm_ray.serving.api.requests import (
    MAX_TEXTS,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ScoredText,
    ScoreRequest,
    TokenId,
    TokenizeRequest,
)

MAX_TURNS = 2**13  # of a conversation
Model = TypeVar("Model", bound=Request)


def bounded(model: type[Model], context: int, answers: int) -> type[Model]:
    """The model for a collaboration that has such a context and may be asked for so many answers at once.

    A turn of a conversation is a token at least.
    """
    messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=min(context, MAX_TURNS), fail_fast=True)]
    ids = Annotated[list[TokenId], Field(min_length=1, max_length=context, fail_fast=True)]
    mask = Annotated[list[bool], Field(max_length=context, fail_fast=True)]
    several = Field(min_length=1, max_length=min(answers, MAX_TEXTS), fail_fast=True)
    some = Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)
    bounds: dict[type[Request], dict[str, Any]] = {
        ChatRequest: {"messages": messages},
        TokenizeRequest: {"messages": (messages | None, None)},
        CompletionRequest: {"prompt": str | ids | Annotated[list[str], several] | Annotated[list[ids], several]},
        ScoreRequest: {
            "texts": Annotated[
                list[create_model("ScoredText", __base__=ScoredText, input_ids=ids, target_mask=mask)],  # type: ignore[misc]
                some,
            ]
        },
    }
    return create_model(model.__name__, __base__=model, **bounds.get(model, {}))
