from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from colllm_ray.config import ModelConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.storage import location

ModelFolder = Callable[[str, int], Path]
IDS, WANTED = torch.tensor([[5, 6, 7, 8]]), torch.arange(4)


@pytest.fixture
def adapted(model_folder: ModelFolder, tmp_path: Path) -> tuple[ModelConfig, torch.Tensor]:
    """A model with an adapter, and PEFT's own logits of it."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama", 0))
    peft = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    peft.save_pretrained(str(tmp_path / "adapter"))
    with torch.no_grad():
        logits = peft(input_ids=IDS).logits[0]
    return ModelConfig(model=str(model_folder("llama", 0)), adapter=str(tmp_path / "adapter")), logits


def test_an_adapter_changes_the_model_as_peft_does(adapted: tuple[ModelConfig, torch.Tensor]) -> None:
    config, expected = adapted
    logits, _ = LanguageModel.load(config, 300).forward(IDS, WANTED)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    plain, _ = LanguageModel.load(config.model_copy(update={"adapter": None}), 300).forward(IDS, WANTED)
    assert float((plain - expected).abs().max()) > 0.1


def test_an_adapter_is_part_of_the_revision(adapted: tuple[ModelConfig, torch.Tensor], tmp_path: Path) -> None:
    config, _ = adapted
    plain = weights_revision(config.model_copy(update={"adapter": None}))
    assert weights_revision(config).startswith(f"{plain}+")
    before = weights_revision(config)
    description = tmp_path / "adapter" / "adapter_config.json"
    description.write_text(description.read_text().replace('"lora_alpha": 8', '"lora_alpha": 80'))
    assert weights_revision(config) != before


def test_an_adapter_may_lie_on_an_object_store(adapted: tuple[ModelConfig, torch.Tensor], s3_folder: str) -> None:
    config, expected = adapted
    assert config.adapter is not None
    location(s3_folder).fs.put(config.adapter, f"{s3_folder}/adapter", recursive=True)
    remote = config.model_copy(update={"adapter": f"{s3_folder}/adapter"})
    logits, _ = LanguageModel.load(remote, 300).forward(IDS, WANTED)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert weights_revision(remote).count("+") == 1


def test_an_adapter_of_another_model_is_refused(
    adapted: tuple[ModelConfig, torch.Tensor], model_folder: ModelFolder
) -> None:
    other = adapted[0].model_copy(update={"model": str(model_folder("gpt_neox", 0))})
    with pytest.raises(ColllmError, match=r"adapter: is no adapter of .*gpt_neox"):
        LanguageModel.load(other, 300)


def test_a_pickled_adapter_is_refused(adapted: tuple[ModelConfig, torch.Tensor], tmp_path: Path) -> None:
    config, _ = adapted
    shutil.move(tmp_path / "adapter/adapter_model.safetensors", tmp_path / "adapter/adapter_model.bin")
    with pytest.raises(ColllmError, match=r"holds no \*.safetensors"):
        LanguageModel.load(config, 300)
