"""The questions of a task: token ids to answer, and the references to judge the answers by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from colllm_ray.column_template import ColumnTemplate, value_of
from colllm_ray.config import DataConfig, RowPart
from colllm_ray.data.examples import Example, encode_row, read_whole
from colllm_ray.data.prompts import answered_row, has_answer, read_prompt
from colllm_ray.data.records import Record, Unreadable
from colllm_ray.data.rows import Row
from colllm_ray.data.sources import read_records
from colllm_ray.data.text import text_behind
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics import metric_of
from colllm_ray.evaluation.metrics.choice import choice_texts, right_choice
from colllm_ray.evaluation.task import ANSWERS, Task

SPLIT = "test"
WITHOUT_COMPLETIONS = 256  # the tokens that an answer may have where no reference says how long one is


@dataclass(frozen=True)
class Question:
    """What is asked, and what is right.

    `prompt`, `completion` and `choices` are token ids. `completion` is the reference's text with its end token, where
    the row has one. `choices` stand behind the prompt, without an end token; `reference` is the index of the right one
    then, and else what the task's metric compares answers with.
    """

    example_id: str
    domain: str | None
    prompt: tuple[int, ...]
    reference: object
    completion: tuple[int, ...] | None
    choices: tuple[tuple[int, ...], ...] = ()


def read_questions(task: Task, tokenizer: PreTrainedTokenizerBase, context: int, data: DataConfig) -> list[Question]:
    """The questions in order, named "test-00000000" and on, their references checked.

    `data` says what the columns are where the task says nothing of them; `context` is the longest text that all models
    can take, in tokens. Whether rows have completions is told from the columns, or else from the first row. Raises
    ColllmError that names the first row that is wrong.
    """
    data = data.model_copy(update={"columns": task.columns or data.columns})
    reader = _Reader(task, tokenizer, context, data.templates)
    records = reader.records()
    if task.metric != "choice" and has_answer(records[0].values, data.templates):
        examples = read_whole(task.data, SPLIT, tokenizer, context, data)
        return [reader.completed(example, record) for example, record in zip(examples, records, strict=True)]
    read = reader.chosen if task.metric == "choice" else reader.asked
    return [read(f"{SPLIT}-{i:08d}", record) for i, record in enumerate(records)]


def max_tokens(task: Task, questions: Sequence[Question]) -> int:
    """The tokens that an answer may have: one more than the longest completion, as none of that length is right."""
    completions = [len(question.completion) for question in questions if question.completion is not None]
    return task.max_tokens or (1 + max(completions) if completions else WITHOUT_COMPLETIONS)


class _Reader:
    """Makes questions of rows; each raises ColllmError that names the row."""

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        templates: Mapping[RowPart, ColumnTemplate],
    ) -> None:
        self._task, self._tokenizer, self._context, self._templates = task, tokenizer, context, templates
        self._metric = metric_of(task) if task.decodes else None

    def records(self) -> list[Record]:
        """All rows, with the columns that the questions need."""
        # Where choices are written in the place of an answer, its column need not be there.
        needed = [t for part, t in self._templates.items() if self._task.choices is None or part not in ANSWERS]
        required = {column for template in needed for column in template.columns}
        required.update(column for column in (self._task.answer, self._task.choices) if column is not None)
        optional = {"domain"} if set(self._templates) - {"domain"} else set(Row.model_fields)
        records = []
        for record in read_records(self._task.data, required, optional):
            if isinstance(record, Unreadable):
                raise ColllmError(f"{record.place}: {record.reason}")
            records.append(record)
        return records

    def completed(self, example: Example, record: Record) -> Question:
        """A row with a completion."""
        prompt, completion = tuple(example.prompt_ids), tuple(example.completion_ids)
        with _naming(record.place):
            reference = self._reference(record, text_behind(prompt, completion[:-1], self._tokenizer))
        return Question(example.example_id, example.domain, prompt, reference, completion)

    def asked(self, example_id: str, record: Record) -> Question:
        """A row that is a prompt alone."""
        with _naming(record.place):
            if self._task.metric == "perplexity":
                raise ColllmError("has no completion, whose perplexity is asked for")
            if self._task.answer is None:
                raise ColllmError("has no completion; `answer` names the column of the reference where there is none")
            prompt = read_prompt(record.values, self._templates, self._tokenizer)
            self._check_room(len(prompt.ids), 1)
            return Question(example_id, prompt.domain, prompt.ids, self._reference(record, None), None)

    def chosen(self, example_id: str, record: Record) -> Question:
        """A row with choices: each stands where the completion would, and loses the end token."""
        answer, choices_column = self._task.answer, self._task.choices
        assert answer is not None
        assert choices_column is not None
        with _naming(record.place):
            with _naming(f"the column {choices_column!r}"):
                texts = choice_texts(value_of(choices_column, record.values))
            with _naming(f"the column {answer!r}"):
                right = right_choice(texts, value_of(answer, record.values))
            rows = [answered_row(record.values, self._templates, self._written(text)) for text in texts]
            examples = [encode_row(row, example_id, self._tokenizer) for row in rows]
            prompt = tuple(examples[0].prompt_ids)
            if any(tuple(example.prompt_ids) != prompt for example in examples):
                raise ColllmError("has a prompt that the base's chat template writes otherwise before each choice")
            choices = tuple(tuple(example.completion_ids[:-1]) for example in examples)
            self._check_room(len(prompt), max(map(len, choices)))
            return Question(example_id, rows[0].domain, prompt, right, None, choices)

    def _written(self, choice: str) -> str:
        """A choice as the completion's template writes what it has from a column."""
        for part in ANSWERS & self._templates.keys():
            template = self._templates[part]
            if sum(column is not None for _, column in template.parts) != 1:
                raise ColllmError(
                    f"columns.{part}: {template.text!r} must have one column, in whose place choices are written"
                )
            return "".join(literal + ("" if column is None else choice) for literal, column in template.parts)
        return choice

    def _reference(self, record: Record, completion: str | None) -> object:
        column = self._task.answer
        reference = completion if column is None else value_of(column, record.values)
        if self._metric is not None:
            with _naming("the completion" if column is None else f"the column {column!r}"):
                self._metric.check(reference)
        return reference

    def _check_room(self, prompt: int, answer: int) -> None:
        if prompt + answer > self._context:
            raise ColllmError(
                f"is too long: its prompt has {prompt} tokens, an answer {answer} or more; "
                f"the models' context is {self._context}"
            )


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except ColllmError as error:
        raise ColllmError(f"{what}: {error}") from error
