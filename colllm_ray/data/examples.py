"""Examples: token ids, and which of them are targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from transformers import PreTrainedTokenizerBase

from colllm_ray.column_template import ColumnTemplate
from colllm_ray.config import DataConfig, RowPart, Source
from colllm_ray.data.chat import answered_text
from colllm_ray.data.encoding import AnsweredText, Encoded, encode
from colllm_ray.data.records import Record, Unreadable
from colllm_ray.data.rows import Row, row_of
from colllm_ray.data.sources import read_records
from colllm_ray.errors import ColllmError

ROWS_AT_ONCE = 256  # that go through the tokenizer together


@dataclass(frozen=True)
class Example:
    """One text that models are scored on.

    `target_mask[t]` says whether token t carries loss: the completion's tokens and its end token. The first token is
    never one, as nothing precedes it.
    """

    example_id: str
    input_ids: list[int]
    target_mask: list[bool]
    domain: str | None = None

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.target_mask) or self.target_mask[0] or not any(self.target_mask):
            raise ValueError(f"{self.example_id}: needs a prompt, then at least one target")

    @property
    def prompt_ids(self) -> list[int]:
        """What comes before the last run of targets."""
        return self.input_ids[: self._completion_start()]

    @property
    def completion_ids(self) -> list[int]:
        """The last run of targets, end token included."""
        start = self._completion_start()
        length = next((i for i, target in enumerate(self.target_mask[start:]) if not target), None)
        return self.input_ids[start:] if length is None else self.input_ids[start : start + length]

    def _completion_start(self) -> int:
        last = len(self.target_mask) - 1 - self.target_mask[::-1].index(True)
        start = last
        while self.target_mask[start - 1]:
            start -= 1
        return start


@dataclass(frozen=True)
class FailedRow:
    """A row that makes no example; `reason` names where it stands, what is wrong, and what would be right."""

    example_id: str
    reason: str


def read_examples(
    source: Source, split: str, tokenizer: PreTrainedTokenizerBase, context: int, data: DataConfig
) -> Iterator[Example | FailedRow]:
    """The rows of a source in order, named "SPLIT-00000000" and on, those that fail included.

    `context` is the longest example that all models can take, in tokens; of `data`, the columns and the turns that are
    learnt count. Raises ColllmError where the source as a whole cannot be read.
    """
    templates = data.templates
    required = {column for template in templates.values() for column in template.columns}
    optional = {"domain"} if set(templates) - {"domain"} else set(Row.model_fields)
    records = enumerate(read_records(source, required, optional))
    while batch := list(islice(records, ROWS_AT_ONCE)):
        named = {f"{split}-{i:08d}": record for i, record in batch}
        yield from _batch(named, tokenizer, context, templates, data.loss_on)


def read_whole(
    source: Source, split: str, tokenizer: PreTrainedTokenizerBase, context: int, data: DataConfig
) -> Iterator[Example]:
    """As `read_examples`, for a source in which no row may fail. Raises ColllmError at the first that does."""
    for example in read_examples(source, split, tokenizer, context, data):
        if isinstance(example, FailedRow):
            raise ColllmError(example.reason)
        yield example


def encode_row(row: Row, example_id: str, tokenizer: PreTrainedTokenizerBase) -> Example:
    """One row, all of the assistant's turns learnt. Raises ColllmError that names it."""
    try:
        (encoded,) = encode([_answered(row, tokenizer, "all")], tokenizer)
        return _example(example_id, encoded, row.domain)
    except ColllmError as error:
        raise ColllmError(f"{example_id}: {error}") from error


def _batch(
    records: Mapping[str, Record | Unreadable],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    templates: Mapping[RowPart, ColumnTemplate],
    loss_on: Literal["all", "last"],
) -> Iterator[Example | FailedRow]:
    """Records by example id, which go through the tokenizer together."""
    reasons: dict[str, str] = {}
    domains: dict[str, str | None] = {}
    texts: dict[str, AnsweredText] = {}
    for example_id, record in records.items():
        try:
            row = _row(record, templates)
            texts[example_id] = _answered(row, tokenizer, loss_on)
            domains[example_id] = row.domain
        except ColllmError as error:
            reasons[example_id] = str(error)
    encoded = dict(zip(texts, encode(list(texts.values()), tokenizer), strict=True))
    for example_id, record in records.items():
        if example_id in encoded:
            try:
                example = _example(example_id, encoded[example_id], domains[example_id])
                _check_length(example, context)
                yield example
                continue
            except ColllmError as error:
                reasons[example_id] = str(error)
        yield FailedRow(example_id, f"{record.place}: {reasons[example_id]}")


def _row(record: Record | Unreadable, templates: Mapping[RowPart, ColumnTemplate]) -> Row:
    if isinstance(record, Unreadable):
        raise ColllmError(record.reason)
    return row_of(record.values, templates)


def _answered(row: Row, tokenizer: PreTrainedTokenizerBase, loss_on: Literal["all", "last"]) -> AnsweredText:
    if row.messages is not None:
        return answered_text(row.messages, tokenizer, loss_on)
    prompt, completion = row.prompt or "", row.completion or ""
    text = prompt + completion
    return AnsweredText(text, ((len(prompt), len(text)),), adds_special_tokens=True)


def _example(example_id: str, encoded: Encoded, domain: str | None) -> Example:
    if encoded.target_mask[0]:
        raise ColllmError("has an empty prompt; a model needs at least one token before the answer")
    return Example(example_id, encoded.input_ids, encoded.target_mask, domain)


def _check_length(example: Example, context: int) -> None:
    length = len(example.input_ids)
    if length > context:
        raise ColllmError(
            f"is {length} tokens long (prompt {len(example.prompt_ids)}); the models' context is {context}"
        )
