from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from colllm_ray.config import ModelConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.models.member import check_member
from colllm_ray.storage import location
from tests.models.folders import write_model

ModelFolder = Callable[[str, int], Path]
IDS, WANTED = torch.tensor([[5, 6, 7, 8]]), torch.arange(4)


def write_adapter(folder: Path, to: Path, **fields: Any) -> tuple[ModelConfig, torch.Tensor]:
    """An adapter of all sorts of weights beside the model in a folder, and the logits of it as PEFT reads it."""
    torch.manual_seed(3)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, **{"init_lora_weights": False, **fields})
    )
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if weight.requires_grad:
                if "lora_" in name:
                    weight.mul_(0.2)
                else:
                    weight.add_(torch.randn_like(weight), alpha=0.05)
    peft.save_pretrained(str(to))
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(to)).eval()
    with torch.no_grad():
        return ModelConfig(model=str(folder), adapter=str(to)), read(input_ids=IDS).logits[0]


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


@pytest.mark.parametrize("architecture", ["llama", "mistral"])  # the first one's output layer is its embeddings
@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "trainable_token_indices": [5, 7]},
        {"target_modules": ["q_proj", "lm_head"], "use_dora": True},
        {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True, "use_rslora": True},
        {"target_modules": "all-linear", "init_lora_weights": "pissa"},
    ],
    ids=str,
)
def test_an_adapter_of_any_layer_is_right(
    fields: dict[str, Any], architecture: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    config, expected = write_adapter(model_folder(architecture, 0), tmp_path, **fields)
    check_member(config, 300, 64)
    logits, _ = LanguageModel.load(config, 300).forward(IDS, WANTED)
    torch.testing.assert_close(logits.log_softmax(-1), expected.log_softmax(-1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_an_adapter_may_bring_biases(bias: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = Qwen2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    folder = write_model(tmp_path / "model", config, tokenizer)
    adapter, expected = write_adapter(folder, tmp_path / "adapter", target_modules=["q_proj"], bias=bias)
    check_member(adapter, 300, 64)
    logits, _ = LanguageModel.load(adapter, 300).forward(IDS, WANTED)
    torch.testing.assert_close(logits.log_softmax(-1), expected.log_softmax(-1), atol=2e-5, rtol=0)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    (some,) = (name for name in weights if ".layers.1.self_attn.q_proj." in name and name.endswith(".bias"))
    save_file({name: weight for name, weight in weights.items() if name != some}, file)
    refused(adapter, "lacks weights .*q_proj.*bias")


def refused(config: ModelConfig, reason: str) -> None:
    """Before weights are read, and where nobody has looked before."""
    for look in (lambda: check_member(config, 300, 64), lambda: LanguageModel.load(config, 300)):
        with pytest.raises(ColllmError, match=f"^{config.adapter}: .*{reason}") as error:
            look()
        assert "\n" not in str(error.value)


def test_an_adapter_with_weights_that_land_nowhere_or_are_missing_is_refused(
    adapted: tuple[ModelConfig, torch.Tensor], tmp_path: Path
) -> None:
    config, _ = adapted
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    some = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    save_file({name: weight for name, weight in weights.items() if name != some}, file)
    refused(config, r"lacks weights that its configuration speaks of: \S*layers\.1\.mlp\.up_proj\.lora_B")
    save_file({**weights, some.replace("layers.1", "layers.2"): weights[some].clone()}, file)
    refused(config, r"no place for: \S*layers\.2\.mlp\.up_proj\.lora_B")
    save_file({name.replace("base_model.model.", ""): weight for name, weight in weights.items()}, file)
    refused(config, "no place for")


@pytest.mark.parametrize("fields", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}], ids=str)
def test_an_adapter_of_another_vocabulary_or_width_is_refused(
    fields: dict[str, Any], model_folder: ModelFolder, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    shape = {
        "vocab_size": 310,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    other = write_model(tmp_path / "other", Qwen2Config(**shape, num_hidden_layers=2), tokenizer)
    own = {"target_modules": ["q_proj"], **fields}
    config, _ = write_adapter(other, tmp_path / "adapter", **own)
    refused(config.model_copy(update={"model": str(model_folder("mistral", 0))}), "is no adapter of .*size mismatch")
    config, _ = write_adapter(other, tmp_path / "wide", target_modules=["up_proj"])
    refused(config.model_copy(update={"model": str(model_folder("mistral", 0))}), "is no adapter of .*size mismatch")


def test_what_cannot_be_merged_is_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = model_folder("mistral", 0)
    config, _ = write_adapter(folder, tmp_path / "bias", target_modules=["q_proj"], lora_bias=True)
    refused(config, "cannot be merged into .*base layer has no bias")
    config, _ = write_adapter(folder, tmp_path / "more", target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])
    refused(config, "uses layer_replication, which cannot be merged")
    other = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]),
    )
    other.save_pretrained(str(tmp_path / "ia3"))
    refused(ModelConfig(model=str(folder), adapter=str(tmp_path / "ia3")), "of the kind IA3; LoRA can be merged")
