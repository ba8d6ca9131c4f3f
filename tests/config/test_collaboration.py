from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from colllm_ray.config import Collaboration, DataConfig, DatasetSource
from colllm_ray.errors import ColllmError

ModelFolder = Callable[[str, int], Path]


@pytest.fixture
def content(model_folder: ModelFolder) -> dict[str, object]:
    return {
        "name": "two",
        "base": {"model": str(model_folder("llama", 0))},
        "experts": [{"name": "one", "model": str(model_folder("qwen3", 0))}],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
    }


def load(content: object, folder: Path) -> Collaboration:
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump(content))
    return Collaboration.load(path)


def test_paths_are_relative_to_the_yaml_file(
    content: dict[str, object], model_folder: ModelFolder, tmp_path: Path
) -> None:
    (tmp_path / "models").symlink_to(model_folder("llama", 0).parent)
    content["base"] = {"model": "models/llama-0"}
    content["serving"] = {"api_keys": "keys.txt"}
    collaboration = load(content, tmp_path)
    assert collaboration.serving.api_keys == str(tmp_path / "keys.txt")
    assert collaboration.base.model == str(model_folder("llama", 0).resolve())
    assert collaboration.data.train == str(tmp_path / "train.jsonl")
    assert list(collaboration.members) == ["base", "one"]


def test_what_is_written_is_read_back(content: dict[str, object], tmp_path: Path) -> None:
    content["training"] = {"epochs": 7}
    collaboration = load(content, tmp_path)
    assert load(yaml.safe_load(collaboration.to_yaml()), tmp_path) == collaboration


def test_what_a_copy_reserves_is_said_in_the_words_of_ray(content: dict[str, object], tmp_path: Path) -> None:
    labels = {"pool": "in(a, b)", "zone": "!c"}
    placement = {"num_gpus": 2, "memory_gib": 1.5, "resources": {"tpu": 1}, "labels": labels}
    content["base"] = {"model": "some-org/some-model", **placement}
    base = load(content, tmp_path).base
    assert base.reserved == {
        "num_cpus": 0.5,
        "num_gpus": 2,
        "memory": 1.5 * 2**30,
        "resources": {"tpu": 1},
        "label_selector": labels,
    }


def test_a_local_ray_has_room_for_all_copies(content: dict[str, object], tmp_path: Path) -> None:
    content["base"] = {"model": "some-org/some-model", "autoscaling": {"min": 0, "max": 20, "sessions": 4}}
    assert load(content, tmp_path).reserved_cpus == 11  # half a CPU each, and the ingress's quarter


def test_a_hub_id_stays_one(content: dict[str, object], tmp_path: Path) -> None:
    content["base"] = {"model": "some-org/some-model"}
    assert load(content, tmp_path).base.model == "some-org/some-model"


GSM8K = {
    "train": {"dataset": "openai/gsm8k", "name": "main", "split": "train[:95%]"},
    "validation": "s3://bucket/validation.jsonl.gz",
    "columns": {"user": "Question: {question}", "assistant": "answer"},
    "loss_on": "last",
    "max_failed": 3,
}


def test_data_may_be_a_data_set_or_a_uri(content: dict[str, object], tmp_path: Path) -> None:
    collaboration = load({**content, "data": GSM8K}, tmp_path)
    source = DatasetSource(dataset="openai/gsm8k", name="main", split="train[:95%]")
    assert collaboration.data.sources == {"train": source, "validation": "s3://bucket/validation.jsonl.gz"}
    assert load(yaml.safe_load(collaboration.to_yaml()), tmp_path) == collaboration


def test_a_folder_of_data_is_relative_to_the_yaml_file_and_may_go_later(
    content: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    data = {"train": {"dataset": "set"}, "validation": {"dataset": "set", "split": "test"}}
    collaboration = load({**content, "data": data}, tmp_path)
    assert collaboration.data.train == DatasetSource(dataset=str(tmp_path / "set"))
    (tmp_path / "set").rmdir()
    assert load(yaml.safe_load(collaboration.to_yaml()), tmp_path) == collaboration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train": {"dataset": "a/b", "spilt": "x"}},
            r"data.train.spilt: unknown field; there are: dataset, name, split",
        ),
        ({"train": {"split": "x"}}, r"data.train.dataset: Field required"),
        ({"train": ""}, r"data.train: "),
        ({"train": 3}, r"data.train: "),
        (
            {"train": {"dataset": "nowhere"}},
            r"data.train.dataset: there is no folder .*nowhere, and 'nowhere' is no hub",
        ),
        ({"flies": "x"}, r"data.flies: unknown field; there are: train, validation, columns, loss_on, max_failed"),
        ({"columns": {"prmpt": "x"}}, r"data.columns.prmpt: Input should be 'prompt', 'completion'"),
        (
            {"columns": {"prompt": "x"}},
            r"data: columns: prompt make no row; right are: prompt, completion; or messages",
        ),
        ({"columns": {"prompt": "x", "assistant": "y"}}, r"data: columns: assistant, prompt make no row"),
        ({"columns": {"messages": "x", "user": "y"}}, r"data: columns: messages, user make no row"),
        ({"columns": {"system": "x", "user": "y"}}, r"data: columns: system, user make no row"),
        ({"columns": {"messages": "{x}y"}}, r"data: columns.messages: '{x}y' is a template"),
        ({"columns": {"user": "{x.y}", "assistant": "z"}}, r"data: columns.user: '{x.y}' has a field that is more"),
        ({"columns": {"user": "{x", "assistant": "z"}}, r"data: columns.user: '{x' is no template: "),
        ({"loss_on": "first"}, r"data.loss_on: Input should be 'all' or 'last'"),
        ({"max_failed": -1}, r"data.max_failed: "),
    ],
)
def test_wrong_data_is_named(
    content: dict[str, object], change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ColllmError, match=rf"two\.yaml: {message}"):
        load({**content, "data": {"train": "train.jsonl", "validation": "validation.jsonl", **change}}, tmp_path)


def test_every_field_is_described() -> None:
    for section in (Collaboration, DataConfig, DatasetSource):
        assert all(field.description for field in section.model_fields.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": 1}, "two.yaml: modle: unknown field; there are: name, base"),
        ({"base": {"model": "a/b", "modle": "x"}}, "two.yaml: base.modle: unknown field; there are: model"),
        ({"base": {"model": "./nowhere"}}, r"base.model: there is no folder .*nowhere"),
        ({"base": {"model": "nowhere"}}, r"base.model: there is no folder .*nowhere"),
        ({"experts": []}, "experts: .* at least 1"),
        ({"experts": [{"name": "base", "model": "a/b"}]}, "'base' is reserved"),
        ({"experts": [{"name": "x", "model": "a/b"}, {"name": "x", "model": "a/c"}]}, "'x' is taken"),
        ({"name": "with space"}, "name: "),
        ({"training": {"epochs": 0}}, "training.epochs: "),
        ({"base": {"model": "a/b", "num_gpus": 1.5}}, "base: num_gpus: 1.5 must be a share of one GPU, or whole ones"),
        ({"base": {"model": "a/b", "labels": {"pool": "in(a"}}}, "base.labels.pool: "),
        ({"base": {"model": "a/b", "resources": {"tpu": 0}}}, "base.resources.tpu: "),
        (
            {"base": {"model": "a/b", "replicas": 2, "autoscaling": {"max": 2, "sessions": 4}}},
            "base: replicas: `autoscaling` says how many there are; leave out one of them",
        ),
        (
            {"base": {"model": "a/b", "autoscaling": {"min": 3, "max": 2, "sessions": 4}}},
            "base.autoscaling: max: 2 copies are fewer than min, 3",
        ),
    ],
)
def test_a_wrong_field_is_named(content: dict[str, object], change: object, message: str, tmp_path: Path) -> None:
    assert isinstance(change, dict)
    with pytest.raises(ColllmError, match=message):
        load({**content, **change}, tmp_path)


def test_a_folder_without_a_model_is_named(content: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ColllmError, match=r"base.model: the folder .*empty holds no model"):
        load({**content, "base": {"model": "empty"}}, tmp_path)


@pytest.mark.parametrize("text", ["name: [", "just words", ""])
def test_what_is_no_yaml_mapping_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ColllmError, match=r"bad\.yaml"):
        Collaboration.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"none\.yaml: cannot be read"):
        Collaboration.load(tmp_path / "none.yaml")
