from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.config import DataConfig
from colllm_ray.data.chat import encode_prompt, encode_text
from colllm_ray.data.examples import read_whole
from colllm_ray.data.rows import Message
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.questions import Question, max_tokens, read_questions
from colllm_ray.evaluation.task import Task
from tests.toy_models import sentencepiece

CONTEXT = 64
OWN_NAMES = DataConfig(train="-", validation="-")
FOX = {"question": "who jumps over the dog?", "solution": "the fox", "names": ["fox", ["quick fox", "brown fox"]]}


class Asking:
    """Reads the questions of rows, as one task after another describes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        self.tokenizer, self._path = tokenizer, folder / "rows.jsonl"

    def __call__(self, rows: Sequence[object], columns: object = None, **fields: object) -> list[Question]:
        self._path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_questions(self.task(columns=columns or {}, **fields), self.tokenizer, CONTEXT, OWN_NAMES)

    def task(self, **fields: object) -> Task:
        return Task.model_validate({"name": "task", "data": str(self._path), **fields})

    def text(self, ids: Sequence[int] | None) -> str:
        return str(self.tokenizer.decode(list(ids or ())))


@pytest.fixture
def asking(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Asking:
    return Asking(tokenizer, tmp_path)


def test_a_completion_is_the_reference(asking: Asking) -> None:
    (question,) = asking([FOX], {"prompt": "Q: {question}\nA:", "completion": " {solution}", "domain": "{solution}"})
    assert question == Question("test-00000000", "the fox", question.prompt, " the fox", question.completion)
    assert asking.text(question.prompt) == "Q: who jumps over the dog?\nA:"
    assert asking.text(question.completion) == " the fox<|end|>"


def test_prompts_are_those_of_examples(asking: Asking, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "the qu"}, {"role": "assistant", "content": "ick"}]
    rows = [{"prompt": "the qu", "completion": "ick"}, {"messages": turns}, {"messages": turns * 2, "domain": "d"}]
    questions = asking(rows)
    examples = list(read_whole(str(tmp_path / "rows.jsonl"), "test", tokenizer, CONTEXT, OWN_NAMES))
    assert [(q.example_id, q.domain, list(q.prompt), list(q.completion or ())) for q in questions] == [
        (e.example_id, e.domain, e.prompt_ids, e.completion_ids) for e in examples
    ]


def test_the_collaboration_says_what_columns_are_where_the_task_does_not(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(FOX))
    data = OWN_NAMES.model_copy(update={"columns": {"user": "question", "assistant": "solution"}})
    (question,) = read_questions(Task.of(str(tmp_path / "rows.jsonl")), tokenizer, CONTEXT, data)
    assert (question.reference, tokenizer.decode(question.prompt)) == (
        "the fox",
        "<|user|>who jumps over the dog?<|assistant|>",
    )


def test_a_reference_may_be_no_text(asking: Asking, tokenizer: PreTrainedTokenizerFast) -> None:
    (question,) = asking([FOX], {"user": "question"}, metric="list", answer="names")
    assert (question.reference, question.completion, question.domain) == (FOX["names"], None, None)
    asked = [Message(role="user", content="who jumps over the dog?")]
    assert list(question.prompt) == encode_prompt(asked, tokenizer)


def test_a_reference_may_stand_beside_a_completion(asking: Asking) -> None:
    columns = {"prompt": "question", "completion": "solution"}
    (question,) = asking([FOX], columns, metric="list", answer="names")
    assert (question.reference, asking.text(question.completion)) == (FOX["names"], "the fox<|end|>")


def test_a_prompt_alone_is_read_as_it_is(asking: Asking) -> None:
    (question,) = asking([{"prompt": "the qu", "names": ["ick"]}], metric="list", answer="names")
    assert asking.text(question.prompt) == "the qu"


def test_messages_may_end_with_the_user(asking: Asking) -> None:
    turns = [{"role": "user", "content": "the fox"}]
    (question,) = asking([{"chat": turns, "yes": True}], {"messages": "chat"}, metric="yes_no", answer="yes")
    assert (asking.text(question.prompt), question.reference) == ("<|user|>the fox<|assistant|>", True)


def test_choices_stand_behind_the_prompt(asking: Asking) -> None:
    row = {"question": "who?", "options": ["fox", "lazy dog", 3], "right": "B"}
    fields = {"metric": "choice", "choices": "options", "answer": "right"}
    (question,) = asking([row], {"prompt": "question"}, **fields)
    assert (asking.text(question.prompt), question.reference, question.completion) == ("who?", 1, None)
    assert [asking.text(choice) for choice in question.choices] == ["fox", "lazy dog", "3"]


def test_choices_take_the_place_of_the_completions_column(asking: Asking) -> None:
    row = {"question": "who?", "options": ["fox", "dog"], "right": 0}
    fields = {"metric": "choice", "choices": "options", "answer": "right"}
    (question,) = asking([row], {"prompt": "{question}\nA:", "completion": " {it}"}, **fields)
    assert [asking.text(choice) for choice in question.choices] == [" fox", " dog"]


@pytest.mark.parametrize(
    "columns", [{"user": "question"}, {"messages": "chat"}, {"user": "question", "assistant": "x"}]
)
def test_choices_are_what_the_assistant_says(columns: dict[str, str], asking: Asking) -> None:
    turns = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "the fox"}]
    row = {"question": "who?", "chat": turns, "options": ["fox", "dog"], "right": "dog"}
    (question,) = asking([row], columns, metric="choice", choices="options", answer="right")
    assert (asking.text(question.prompt), question.reference) == ("<|user|>who?<|assistant|>", 1)
    assert [asking.text(choice) for choice in question.choices] == ["fox", "dog"]


def test_choices_stand_behind_the_tokens_of_the_prompt_alone(asking: Asking) -> None:
    row = {"prompt": "over the l", "options": ["azy", " dog"], "right": 0}
    (question,) = asking([row], metric="choice", choices="options", answer="right")
    assert list(question.prompt) == encode_text("over the l", asking.tokenizer)
    assert [asking.text(choice) for choice in question.choices] == ["azy", " dog"]


def test_choices_go_on_in_the_middle_of_a_word(tmp_path: Path) -> None:
    tokenizer = sentencepiece(words=["▁bar"], merges=[("n", "f")])
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "un", "options": ["foo", "bar", " bar"], "right": 0}))
    task = Task(name="task", data=str(rows), metric="choice", choices="options", answer="right")
    (question,) = read_questions(task, tokenizer, CONTEXT, OWN_NAMES)
    texts = [tokenizer.decode([*question.prompt, *choice], skip_special_tokens=True) for choice in question.choices]
    assert texts == ["unfoo", "unbar", "un bar"]


def test_parquet_is_asked_for_the_columns_of_the_task(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [{"question": "who?", "options": ["fox", "dog"], "right": 1, "other": 2.5}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    fields = {"metric": "choice", "choices": "options", "answer": "right", "columns": {"user": "question"}}
    task = Task.model_validate({"name": "task", "data": str(tmp_path / "rows.parquet"), **fields})
    (question,) = read_questions(task, tokenizer, CONTEXT, OWN_NAMES)
    assert (question.reference, len(question.choices)) == (1, 2)


def test_an_answer_may_be_one_token_longer_than_the_longest_completion(asking: Asking) -> None:
    questions = asking([{"prompt": "who?", "completion": text} for text in ("fox", "the lazy dog")])
    assert max_tokens(asking.task(), questions) == 1 + max(len(q.completion or ()) for q in questions)
    assert max_tokens(asking.task(max_tokens=7), questions) == 7


def test_an_answer_without_completions_may_have_256_tokens(asking: Asking) -> None:
    questions = asking([FOX], {"user": "question"}, metric="list", answer="names")
    assert max_tokens(asking.task(), questions) == 256


NUMBERS = {"columns": {"user": "question", "assistant": "solution"}, "metric": "numeric"}
NAMES = {"columns": {"user": "question"}, "metric": "list", "answer": "names"}
CHOICES = {"columns": {"user": "question"}, "metric": "choice", "choices": "options", "answer": "right"}


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"question": "q", "solution": "no idea"}, NUMBERS, "the completion: 'no idea' holds no numbers; a number, or"),
        ({"question": "q", "solution": 3}, NUMBERS, "assistant: the column 'solution' holds no text but int"),
        ({"question": "q" * 80, "solution": "3"}, NUMBERS, "is 8. tokens long"),
        ({"question": "q", "names": "fox"}, NAMES, "the column 'names': holds 'fox'; a list of items"),
        ({"question": "q"}, NAMES, "has no column 'names'; it has: 'question'"),
        ({"names": ["fox"]}, NAMES, "user: has no column 'question'"),
        ({"question": "q" * 80, "names": ["fox"]}, NAMES, "is too long: its prompt has 8. tokens, an answer 1 or more"),
        ({"prompt": "", "names": ["fox"]}, {**NAMES, "columns": {}}, "has an empty prompt; a model needs"),
        (
            {"chat": 3, "names": ["fox"]},
            {**NAMES, "columns": {"messages": "chat"}},
            "messages: Input should be a valid",
        ),
        ({"prompt": "q"}, {}, "has no completion; `answer` names the column of the reference"),
        ({"prompt": "q"}, {"metric": "perplexity"}, "has no completion, whose perplexity is asked for"),
        (["q"], {}, "is a JSON list; a row is an object"),
        (
            {"question": "q", "options": ["a"], "right": 0},
            CHOICES,
            "the column 'options': holds .* a list of two choices",
        ),
        (
            {"question": "q", "options": ["a", ""], "right": 0},
            CHOICES,
            "the column 'options': .* a text that is not empty",
        ),
        (
            {"question": "q", "options": ["a", "b"], "right": 2},
            CHOICES,
            "the column 'right': holds 2; right are an index",
        ),
        (
            {"question": "q", "options": ["a", "b" * 80], "right": 0},
            CHOICES,
            "is too long: its prompt has . tokens, an a",
        ),
        (
            {"question": "q", "options": ["a", "b"], "right": 0},
            {**CHOICES, "columns": {"prompt": "question", "completion": "{x}{y}"}},
            "columns.completion: '{x}{y}' must have one column, in whose place choices are written",
        ),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    row: object, fields: dict[str, object], message: str, asking: Asking
) -> None:
    with pytest.raises(ColllmError, match=rf"rows\.jsonl:1: {message}"):
        asking([row], **fields)


def test_all_rows_are_as_the_first_one(asking: Asking) -> None:
    with pytest.raises(ColllmError, match=r"rows.jsonl:2: has no 'completion'"):
        asking([{"prompt": "a", "completion": "b"}, {"prompt": "a"}])
