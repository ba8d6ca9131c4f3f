from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from colllm_ray.config import Collaboration
from colllm_ray.errors import ColllmError


@pytest.fixture
def load(model_folder: Callable[[str, int], Path], tmp_path: Path) -> Callable[..., Collaboration]:
    """Loads a YAML file with this section `training`, and these fields of base and expert."""

    def load_yaml(
        training: dict[str, Any], base: dict[str, Any] | None = None, expert: dict[str, Any] | None = None
    ) -> Collaboration:
        content = {
            "name": "two",
            "base": {"model": str(model_folder("llama", 0)), **(base or {})},
            "experts": [{"name": "one", "model": str(model_folder("qwen3", 0)), **(expert or {})}],
            "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
            "training": training,
        }
        (tmp_path / "two.yaml").write_text(yaml.safe_dump(content))
        return Collaboration.load(tmp_path / "two.yaml")

    return load_yaml


@pytest.mark.parametrize(
    ("training", "error"),
    [
        ({"base": {"epochs": 2}}, "training: base: the base does not learn in mode frozen; set `mode: lora`"),
        ({"objective": "finetune"}, "training: objective: finetune trains the base alone; set `mode: lora`"),
        ({"mode": "full", "base": {"lora": {"rank": 2}}}, "training: base.lora: mode full trains all weights"),
        ({"mode": "lora", "base": {"lora": {"rang": 2}}}, "training.base.lora.rang: unknown field; there are: rank, "),
        ({"mode": "full", "base": {"rate": 2}}, "training.base.rate: unknown field; there are: epochs, batch_size"),
        ({"mode": "half"}, "training.mode: Input should be 'frozen', 'lora' or 'full'"),
    ],
)
def test_what_does_not_fit_the_mode_is_named(
    training: dict[str, Any], error: str, load: Callable[..., Collaboration]
) -> None:
    with pytest.raises(ColllmError, match=re.escape(error)):
        load(training)


def test_learning_rates_depend_on_the_mode(load: Callable[..., Collaboration]) -> None:
    assert load({"mode": "full"}).training.base_learning_rate == 2e-5
    assert load({"mode": "lora"}).training.base_learning_rate == 2e-4
    assert load({"mode": "lora", "base": {"learning_rate": 0.5}}).training.base_learning_rate == 0.5


def test_prices_belong_to_experts_and_to_the_marginal_objective(load: Callable[..., Collaboration]) -> None:
    assert load({}, expert={"price": 0.25}).prices == (0.0, 0.25)
    with pytest.raises(ColllmError, match="objective: weak knows no prices; leave out the experts' `price`"):
        load({"objective": "weak"}, expert={"price": 0.25})


def test_deepspeed_s_file_is_read_beside_the_yaml(load: Callable[..., Collaboration], tmp_path: Path) -> None:
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}} // shared weights')
    collaboration = load({"mode": "full", "base": {"deepspeed": "zero.json"}})
    assert collaboration.training.base.deepspeed == {"zero_optimization": {"stage": 3}}
    (tmp_path / "again.yaml").write_text(collaboration.to_yaml())
    assert Collaboration.load(tmp_path / "again.yaml") == collaboration


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "training.base.deepspeed: .*zero.json cannot be read"),
        ("{", "training.base.deepspeed: .*zero.json is no JSON"),
        ("[1]", "training.base.deepspeed: .*zero.json must hold an object"),
    ],
)
def test_a_wrong_file_for_deepspeed_is_named(
    content: str | None, error: str, load: Callable[..., Collaboration], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "zero.json").write_text(content)
    with pytest.raises(ColllmError, match=error):
        load({"mode": "full", "base": {"deepspeed": "zero.json"}})


def test_an_adapter_is_a_folder_beside_the_yaml(load: Callable[..., Collaboration], tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"base.adapter: the folder .*mine holds no LoRA adapter"):
        load({}, base={"adapter": "mine"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/adapter_config.json").write_text("{}")
    assert load({}, base={"adapter": "mine"}).base.adapter == str(tmp_path / "mine")
