"""What one row says: a prompt and its completion, or a conversation; checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from colllm_ray.column_template import ColumnTemplate, value_of
from colllm_ray.config import RowPart
from colllm_ray.errors import ColllmError

SPEAKER = r"^[\w.@-]{1,64}$"  # nothing that a chat template could take for its own
ROLES: tuple[Literal["system", "user", "assistant"], ...] = ("system", "user", "assistant")


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = Field(None, pattern=SPEAKER, description="Who speaks, for chat templates that write it.")

    @model_validator(mode="before")
    @classmethod
    def _without_absent_keys(cls, value: object) -> object:
        # Tables have every key in every row: null is how they say that one is not there.
        if isinstance(value, dict):
            return {key: it for key, it in value.items() if it is not None or key in cls.model_fields}
        return value

    @field_validator("content", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if value is None:
            raise ValueError("is null; a text is right, as calls of tools are not taken")
        if isinstance(value, list):
            raise ValueError("is a list of parts; one text is right: join the parts that are text")
        return value


class Row(BaseModel):
    """Prompt and completion, or messages that end with the assistant's; fields of other names stay unread."""

    prompt: str | None = None
    completion: str | None = Field(None, min_length=1)
    messages: list[Message] | None = None
    domain: str | None = None

    @model_validator(mode="after")
    def _is_one_of_two_kinds(self) -> Row:
        if self.messages is None:
            if self.prompt is None or self.completion is None:
                missing = " and ".join(f"{name!r}" for name in ("prompt", "completion") if getattr(self, name) is None)
                raise ValueError(
                    f"has no {missing}; a row holds 'prompt' and 'completion', or 'messages' "
                    "(`data.columns` says which of its columns are those)"
                )
        elif self.prompt is not None or self.completion is not None:
            raise ValueError("holds 'messages' beside 'prompt' or 'completion'; one of the two is right")
        elif not self.messages or self.messages[-1].role != "assistant" or not self.messages[-1].content:
            raise ValueError("'messages' must end with what the assistant says")
        elif self.messages[0].role == "assistant":
            raise ValueError("'messages' must begin with the user or the system")
        return self


def row_of(values: Mapping[str, object], templates: Mapping[RowPart, ColumnTemplate]) -> Row:
    """The row that these columns make; those that `templates` says nothing of go by their own names.

    Raises ColllmError that says what is wrong with them.
    """
    parts = _parts(values, templates) if templates else values
    try:
        return Row.model_validate(parts)
    except ValidationError as error:
        raise ColllmError(_problems(error)) from error


def _parts(values: Mapping[str, object], templates: Mapping[RowPart, ColumnTemplate]) -> dict[str, object]:
    domain = templates.get("domain")
    rest = {part: template for part, template in templates.items() if part != "domain"}
    parts: dict[str, object]
    if not rest:
        parts = {part: values.get(part) for part in Row.model_fields}
    elif "messages" in rest:
        parts = {"messages": value_of(rest["messages"].text, values)}
    elif "user" in rest:
        parts = {"messages": [turn for role in ROLES if role in rest for turn in _turn(role, rest[role], values)]}
    else:
        parts = {part: _filled(part, template, values) for part, template in rest.items()}
    if domain is None:
        return {**parts, "domain": values.get("domain")}
    absent = domain.is_column and value_of(domain.text, values) is None
    return {**parts, "domain": None if absent else _filled("domain", domain, values)}


def _turn(
    role: Literal["system", "user", "assistant"], template: ColumnTemplate, values: Mapping[str, object]
) -> list[Message]:
    """One message, or none for the system where a row has nothing for it."""
    if role == "system" and template.is_column and value_of(template.text, values) in (None, ""):
        return []
    content = _filled(role, template, values)
    if role == "assistant" and not content:
        raise ColllmError(f"assistant: the column {template.text!r} is empty; nothing is there to learn")
    return [Message(role=role, content=content)]


def _filled(part: RowPart, template: ColumnTemplate, values: Mapping[str, object]) -> str:
    try:
        return template.fill(values)
    except ColllmError as error:
        raise ColllmError(f"{part}: {error}") from error


def _problems(error: ValidationError) -> str:
    def one(location: tuple[int | str, ...], message: str) -> str:
        field = ".".join(str(part) for part in location)
        return f"{field}: {message}" if field else message

    return "; ".join(one(p["loc"], p["msg"].removeprefix("Value error, ")) for p in error.errors())
