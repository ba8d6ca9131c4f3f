from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from colllm_ray.config import Collaboration
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
    collaboration = load(content, tmp_path)
    assert collaboration.base.model == str(model_folder("llama", 0).resolve())
    assert collaboration.data.train == str(tmp_path / "train.jsonl")
    assert list(collaboration.members) == ["base", "one"]


def test_what_is_written_is_read_back(content: dict[str, object], tmp_path: Path) -> None:
    content["training"] = {"epochs": 7}
    collaboration = load(content, tmp_path)
    assert load(yaml.safe_load(collaboration.to_yaml()), tmp_path) == collaboration


def test_a_hub_id_stays_one(content: dict[str, object], tmp_path: Path) -> None:
    content["base"] = {"model": "some-org/some-model"}
    assert load(content, tmp_path).base.model == "some-org/some-model"


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
