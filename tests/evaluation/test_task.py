from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from colllm_ray.config import DatasetSource
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.task import Task

GSM8K: dict[str, object] = {
    "name": "gsm8k",
    "data": "test.jsonl",
    "columns": {"user": "question", "assistant": "answer"},
    "metric": "numeric",
}
QUIZ: dict[str, object] = {
    "name": "quiz",
    "data": "quiz.jsonl",
    "columns": {"user": "question"},
    "metric": "choice",
    "choices": "options",
    "answer": "right",
}


def load(content: object, folder: Path) -> Task:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Task.load(path)


def test_a_path_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    task = load(GSM8K, tmp_path)
    assert task.data == str(tmp_path / "test.jsonl")
    assert load({**GSM8K, "data": "s3://bucket/test.jsonl"}, tmp_path).data == "s3://bucket/test.jsonl"


def test_a_folder_of_data_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    task = load({**GSM8K, "data": {"dataset": "set", "split": "test"}}, tmp_path)
    assert task.data == DatasetSource(dataset=str(tmp_path / "set"), split="test")


def test_data_alone_is_a_task() -> None:
    assert Task.of("/data/test.jsonl.gz") == Task(name="test", data="/data/test.jsonl.gz", metric="exact")
    data_set = DatasetSource(dataset="openai/gsm8k", name="main", split="train[95%:]")
    assert Task.of(data_set) == Task(name="openai-gsm8k--main--train-95", data=data_set)
    assert Task.of("s3://bucket/data/rows.parquet") == Task(name="rows", data="s3://bucket/data/rows.parquet")


@pytest.mark.parametrize("kind", [{"prompt"}, {"user"}, {"system", "user"}, {"messages"}, {"prompt", "completion"}])
@pytest.mark.parametrize("domain", [set(), {"domain"}])
def test_a_question_needs_no_completion(kind: set[str], domain: set[str], tmp_path: Path) -> None:
    columns = {part: part for part in kind | domain}
    task = load({"name": "a", "data": "b", "columns": columns, "metric": "list", "answer": "items"}, tmp_path)
    assert task.columns == columns


def test_answers_are_written_but_for_two_metrics(tmp_path: Path) -> None:
    assert load(GSM8K, tmp_path).decodes
    assert not load(QUIZ, tmp_path).decodes
    assert not load({**GSM8K, "metric": "perplexity"}, tmp_path).decodes


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (GSM8K, {"metrik": "exact"}, "metrik: unknown field; there are: name, data, columns, metric, answer, choices"),
        (GSM8K, {"name": "a b"}, "name: "),
        (GSM8K, {"metric": "best"}, "metric: Input should be 'exact', 'numeric'"),
        (GSM8K, {"data": {"split": "x"}}, "data.dataset: Field required"),
        (GSM8K, {"data": {"dataset": "a/b", "spilt": "x"}}, "data.spilt: unknown field; there are: dataset"),
        (
            GSM8K,
            {"data": {"dataset": "nowhere"}},
            "data.dataset: there is no folder .*nowhere, and 'nowhere' is no hub id .* written as `data: PATH`",
        ),
        (GSM8K, {"columns": {"prmpt": "x"}}, "columns.prmpt: Input should be 'prompt'"),
        (GSM8K, {"columns": {"assistant": "x"}}, "columns: assistant make no question; right are: prompt and maybe"),
        (GSM8K, {"columns": {"prompt": "x", "assistant": "y"}}, "columns: .* make no question"),
        (GSM8K, {"columns": {"system": "x"}}, "columns: system make no question"),
        (GSM8K, {"columns": {"messages": "{x}y"}}, "columns.messages: '{x}y' is a template"),
        (GSM8K, {"columns": {"user": "{x.y}"}}, "columns.user: '{x.y}' has a field that is more"),
        (GSM8K, {"columns": {"user": "q"}}, "columns: say of no completion or assistant; .* unless `answer` names"),
        (GSM8K, {"choices": "options"}, "choices: names the column of the choices for the metric `choice`, and only"),
        (GSM8K, {"max_tokens": 0}, "max_tokens: "),
        (GSM8K, {"stop": [""]}, "stop.0: "),
        (GSM8K, {"metric": "perplexity", "answer": "x"}, "answer: the metric `perplexity` is that of the completion"),
        (GSM8K, {"metric": "perplexity", "max_tokens": 5}, "the metric `perplexity` has no answer written; leave out"),
        (
            GSM8K,
            {"metric": "perplexity", "columns": {"user": "q"}},
            "columns: say of no completion or assistant; it holds the reference$",
        ),
        (QUIZ, {"choices": None}, "choices: names the column"),
        (QUIZ, {"answer": None}, "answer: the metric `choice` needs the column that says which choice is right"),
        (QUIZ, {"stop": ["x"]}, "the metric `choice` has no answer written"),
    ],
)
def test_what_is_wrong_is_named_by_field(
    task: dict[str, object], change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ColllmError, match=rf"task\.yaml: {message}"):
        load({**task, **change}, tmp_path)


def test_a_file_that_is_no_task_is_told(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"task.yaml: must hold the fields of a task: name, data, columns"):
        load(["gsm8k"], tmp_path)
    with pytest.raises(ColllmError, match=r"nowhere.yaml: cannot be read: No such file"):
        Task.load(tmp_path / "nowhere.yaml")


def test_every_field_is_described() -> None:
    assert all(field.description for field in Task.model_fields.values())
