"""Rows of a JSONL file, checked one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from colllm_ray.errors import ColllmError


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


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
                raise ValueError(f"has no {missing}; a row holds 'prompt' and 'completion', or 'messages'")
        elif self.prompt is not None or self.completion is not None:
            raise ValueError("holds 'messages' beside 'prompt' or 'completion'; one of the two is right")
        elif not self.messages or self.messages[-1].role != "assistant" or not self.messages[-1].content:
            raise ValueError("'messages' must end with what the assistant says")
        elif self.messages[0].role == "assistant":
            raise ValueError("'messages' must begin with the user or the system")
        return self


@dataclass(frozen=True)
class NumberedRow:
    """A row and where it stands: `source` is "FILE:LINE"."""

    row: Row
    source: str


def read_jsonl(path: Path) -> Iterator[NumberedRow]:
    """The rows of a JSONL file in order; blank lines are passed over.

    Raises ColllmError that names file and line for one that is no JSON or no row, and for a file without rows.
    """
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise ColllmError(f"{path}: cannot be read: {error.strerror}") from error
    count = 0
    with file:
        for number, line in enumerate(_lines(file, path), start=1):
            if not line.strip():
                continue
            source = f"{path}:{number}"
            try:
                row = Row.model_validate(json.loads(line))
            except json.JSONDecodeError as error:
                raise ColllmError(f"{source}: is no JSON: {error.msg} at column {error.colno}") from error
            except ValidationError as error:
                raise ColllmError(f"{source}: {_problems(error)}") from error
            count += 1
            yield NumberedRow(row, source)
    if not count:
        raise ColllmError(f"{path}: holds no rows")


def _lines(file: Iterator[str], path: Path) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise ColllmError(f"{path}: is no UTF-8 text: {error.reason} at byte {error.start}") from error


def _problems(error: ValidationError) -> str:
    def one(location: tuple[int | str, ...], message: str) -> str:
        field = ".".join(str(part) for part in location)
        return f"{field}: {message}" if field else message

    return "; ".join(one(p["loc"], p["msg"].removeprefix("Value error, ")) for p in error.errors())
