"""Rows whose answer is not their own: what comes before it, and the rows that other answers make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from colllm_ray.column_template import ColumnTemplate
from colllm_ray.config import RowPart
from colllm_ray.data.chat import encode_prompt, encode_text
from colllm_ray.data.rows import Row, row_of
from colllm_ray.errors import ColllmError

ANSWER_OF: dict[RowPart, RowPart] = {"prompt": "completion", "user": "assistant"}


@dataclass(frozen=True)
class Prompt:
    """Token ids, up to where the answer begins."""

    ids: tuple[int, ...]
    domain: str | None


def has_answer(values: Mapping[str, object], templates: Mapping[RowPart, ColumnTemplate]) -> bool:
    """Whether the row has a completion, or its conversation ends with the assistant's turn."""
    for part, answer in ANSWER_OF.items():
        if part in templates:
            return answer in templates
    turns = values.get(_messages_column(templates))
    return _ends_with_assistant(turns) if isinstance(turns, list) else values.get("completion") is not None


def answered_row(values: Mapping[str, object], templates: Mapping[RowPart, ColumnTemplate], answer: str) -> Row:
    """The row with `answer` in the place of its own, if it has one. Raises ColllmError that says what is wrong."""
    for part, place in ANSWER_OF.items():
        if part in templates:
            return row_of(values, {**templates, place: ColumnTemplate(answer, ((answer, None),))})
    column = _messages_column(templates)
    turns = values.get(column)
    if isinstance(turns, list):
        before = turns[:-1] if _ends_with_assistant(turns) else turns
        return row_of({**values, column: [*before, {"role": "assistant", "content": answer}]}, templates)
    return row_of(values if "messages" in templates else {**values, "completion": answer}, templates)


def read_prompt(
    values: Mapping[str, object], templates: Mapping[RowPart, ColumnTemplate], tokenizer: PreTrainedTokenizerBase
) -> Prompt:
    """What a row asks, whether it has an answer or not. Raises ColllmError that says what is wrong with it."""
    row = answered_row(values, templates, answer="-")
    if row.messages is not None:
        return Prompt(tuple(encode_prompt(row.messages[:-1], tokenizer)), row.domain)
    ids = encode_text(row.prompt or "", tokenizer)
    if not ids:
        raise ColllmError("has an empty prompt; a model needs at least one token before the answer")
    return Prompt(tuple(ids), row.domain)


def _messages_column(templates: Mapping[RowPart, ColumnTemplate]) -> str:
    return templates["messages"].text if "messages" in templates else "messages"


def _ends_with_assistant(turns: list[object]) -> bool:
    last = turns[-1] if turns else None
    return isinstance(last, dict) and last.get("role") == "assistant"
