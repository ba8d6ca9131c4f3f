from __future__ import annotations

import pytest

from colllm_ray.column_template import ColumnTemplate
from colllm_ray.config import DataConfig
from colllm_ray.data.rows import Message, Row, row_of
from colllm_ray.errors import ColllmError


def read(values: dict[str, object], columns: dict[str, str]) -> Row:
    config = DataConfig.model_validate({"train": "t", "validation": "v", "columns": columns})
    return row_of(values, config.templates)


GSM8K: dict[str, object] = {"question": "2 + 2?", "answer": "4", "level": 3}


def test_columns_may_have_other_names() -> None:
    row = read(GSM8K, {"prompt": "question", "completion": "answer"})
    assert (row.prompt, row.completion, row.messages, row.domain) == ("2 + 2?", "4", None, None)


def test_columns_may_be_turns() -> None:
    row = read(GSM8K, {"user": "question", "assistant": "answer"})
    assert row.messages == [Message(role="user", content="2 + 2?"), Message(role="assistant", content="4")]


def test_a_template_puts_columns_into_text() -> None:
    row = read(
        GSM8K, {"prompt": "Q ({{{level}}}): {question}\nA:", "completion": " {answer}", "domain": "level-{level}"}
    )
    assert (row.prompt, row.completion, row.domain) == ("Q ({3}): 2 + 2?\nA:", " 4", "level-3")


@pytest.mark.parametrize("absent", [None, ""])
def test_a_row_without_a_system_text_has_no_system_turn(absent: object) -> None:
    columns = {"system": "rules", "user": "question", "assistant": "answer"}
    assert [m.role for m in read({**GSM8K, "rules": "be brief"}, columns).messages or []] == [
        "system",
        "user",
        "assistant",
    ]
    assert [m.role for m in read({**GSM8K, "rules": absent}, columns).messages or []] == ["user", "assistant"]


def test_messages_may_have_another_name() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert read({"chat": turns}, {"messages": "chat"}).messages == [Message.model_validate(turn) for turn in turns]


def test_a_domain_goes_by_its_own_name_or_another() -> None:
    values = {**GSM8K, "prompt": "a", "completion": "b", "domain": "own", "kind": "other"}
    assert read(values, {}).domain == "own"
    assert read(values, {"domain": "kind"}).domain == "other"
    assert read(values, {"prompt": "question", "completion": "answer"}).domain == "own"
    assert read({**values, "kind": None}, {"domain": "kind"}).domain is None


def test_keys_that_hold_null_are_not_there() -> None:
    turns = [
        {"role": "user", "content": "a", "name": None, "weight": None},
        {"role": "assistant", "content": "b", "tool_calls": None},
    ]
    assert [m.content for m in read({"messages": turns, "prompt": None}, {}).messages or []] == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "columns", "message"),
    [
        (
            {"question": "q"},
            {"prompt": "question", "completion": "answer"},
            "completion: has no column 'answer'; it has: 'q",
        ),
        (
            {**GSM8K, "answer": 4},
            {"prompt": "question", "completion": "answer"},
            "holds no text but int; '{answer}' writes",
        ),
        ({**GSM8K, "answer": None}, {"user": "question", "assistant": "answer"}, "the column 'answer' holds null"),
        ({**GSM8K, "answer": ["4"]}, {"user": "question", "assistant": "{answer}"}, "holds no text but list"),
        (
            {**GSM8K, "answer": ""},
            {"user": "question", "assistant": "answer"},
            "assistant: the column 'answer' is empty",
        ),
        ({"chat": "hello"}, {"messages": "chat"}, "messages: Input should be a valid list"),
        ({"q": 1}, {"messages": "chat"}, "has no column 'chat'"),
    ],
)
def test_a_row_that_does_not_fit_says_why(values: dict[str, object], columns: dict[str, str], message: str) -> None:
    with pytest.raises(ColllmError, match=message):
        read(values, columns)


@pytest.mark.parametrize("text", ["{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{}", "{a", "a}", "{a:{b}}"])
def test_a_field_is_a_column_and_nothing_more(text: str) -> None:
    with pytest.raises(ValueError, match=r"has a field that|is no template"):
        ColumnTemplate.parse(text)


def test_a_template_knows_its_columns() -> None:
    template = ColumnTemplate.parse("{a b}: {c}{{d}}")
    assert template.columns == {"a b", "c"}
    assert template.fill({"a b": "x", "c": 1.5}) == "x: 1.5{d}"
