"""What cannot be a member is refused before anything is computed, in one line that names member, fault and remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    Gemma2Config,
    GPTJConfig,
    Lfm2Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from colllm_ray.config import ModelConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.errors import ColllmError
from colllm_ray.models.member import check_member
from colllm_ray.models.members import check_members
from colllm_ray.scoring.score import score
from colllm_ray.serving.placement.plan import planned
from colllm_ray.storage import location
from colllm_ray.training.train import train
from tests.conftest import ARCHITECTURES, CONTEXT, ModelFolder
from tests.models.folders import collaboration, copied, with_config, with_weights, without, write_model

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
EXPERT_W1 = "model.layers.0.block_sparse_moe.experts.2.w1.weight"


def refusal(base: Path, expert: Path, **fields: Any) -> str:
    with pytest.raises(ColllmError) as refused:
        check_members(collaboration(base, expert, **fields))
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_whole_models_are_members_in_one_file_or_many(
    architecture: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = model_folder(architecture, 0)
    model = LanguageModel.load(ModelConfig(model=str(folder)), 300).model
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    for place in (folder, tmp_path / "shards"):
        check_member(ModelConfig(model=str(place)), 300, CONTEXT)


def test_what_members_share_is_returned(model_folder: ModelFolder) -> None:
    shared = check_members(collaboration(model_folder("llama", 0), model_folder("qwen3", 0)))
    assert (shared.vocab_size, shared.context) == (300, CONTEXT)
    assert len(shared.tokenizer) == 300


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("mistral", ["lm_head.weight"]),
        ("llama", ["model.embed_tokens.weight"]),  # tied: the output layer has none either
        ("qwen3", [Q_PROJ]),
        ("qwen3", ["model.layers.0.self_attn.k_norm.weight"]),
        ("gpt_neox", ["gpt_neox.final_layer_norm.weight"]),
        ("mixtral", [EXPERT_W1]),
        ("mixtral", [EXPERT_W1, EXPERT_W1.replace("w1", "w3")]),
        ("mixtral", [EXPERT_W1.replace("w1", "w2")]),
    ],
)
def test_missing_weights_are_named(
    architecture: str, names: list[str], model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = without(copied(model_folder(architecture, 0), tmp_path / "model"), names)
    message = refusal(model_folder("llama", 0), folder)
    assert message.startswith(f"other: {folder}: ")
    assert all(name in message.partition("missing: ")[2] for name in names)
    with pytest.raises(ColllmError, match=re.escape(names[0])):  # also where nobody has checked it before
        LanguageModel.load(ModelConfig(model=str(folder)), 300)


def test_of_many_missing_weights_a_few_are_named_and_the_others_counted(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = copied(model_folder("qwen3", 0), tmp_path / "model")
    with_weights(folder, lambda weights: {name: one for name, one in weights.items() if ".layers.1." not in name})
    assert re.search(r"missing: (model\.layers\.1\.\S+, ){2}model\.layers\.1\.\S+ and 8 more;", refusal(folder, folder))


def test_weights_that_the_model_has_no_place_for_are_named(model_folder: ModelFolder, tmp_path: Path) -> None:
    """Such as the layers of a larger model."""
    folder = with_config(copied(model_folder("mistral", 0), tmp_path / "model"), num_hidden_layers=1)
    assert re.search(r"unknown: model\.layers\.1\.\S+, .* more; ", refusal(folder, folder))


def test_weights_of_another_shape_are_named_with_both(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(model_folder("mistral", 0), tmp_path / "model")
    with_weights(folder, lambda weights: {**weights, Q_PROJ: torch.zeros(16, 32)})
    assert f"of another shape: {Q_PROJ} [16, 32] for [32, 32]" in refusal(model_folder("llama", 0), folder)
    with pytest.raises(ColllmError, match=re.escape(Q_PROJ)):
        LanguageModel.load(ModelConfig(model=str(folder)), 300)


def test_a_missing_shard_is_named(
    model_folder: ModelFolder, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = LanguageModel.load(ModelConfig(model=str(model_folder("mistral", 0))), 300).model
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    assert f"other: {tmp_path}: holds no {shard.name}, which model.safetensors.index.json" in refusal(
        model_folder("llama", 0), tmp_path
    )


def test_a_file_that_was_cut_is_named(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(model_folder("mistral", 0), tmp_path / "model")
    weights = folder / "model.safetensors"
    for left in (weights.stat().st_size - 1, 100, 3):
        weights.write_bytes(weights.read_bytes()[:left])
        assert f"{weights}: is no whole safetensors file" in refusal(model_folder("llama", 0), folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf"])
def test_weights_in_other_formats_are_not_loaded(name: str, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(model_folder("mistral", 0), tmp_path / "model")
    (folder / "model.safetensors").rename(folder / name)
    message = refusal(model_folder("llama", 0), folder)
    assert message.startswith(f"other: {folder}: holds no *.safetensors")
    assert name in message


def test_a_model_behind_a_uri_is_looked_at_before_it_is_copied(
    model_folder: ModelFolder, tmp_path: Path, s3_folder: str
) -> None:
    folder = without(copied(model_folder("qwen3", 0), tmp_path / "model"), [Q_PROJ])
    location(s3_folder).fs.put(str(folder), f"{s3_folder}/model", recursive=True)
    with pytest.raises(ColllmError, match=rf"other: {s3_folder}/model: .* missing: {Q_PROJ}"):
        check_members(collaboration(model_folder("llama", 0), Path("unused"), model=f"{s3_folder}/model"))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GPTJConfig(vocab_size=300, n_embd=32, n_layer=2, n_head=4, rotary_dim=4), "attention interface"),
        (Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8), "attention with `softcap`"),
        (BertConfig(**SHAPE), "sees the whole text at each token"),
        (
            Lfm2Config(**SHAPE, num_key_value_heads=2, layer_types=["conv", "full_attention"]),
            "of its 2 layers 1 keep something else",
        ),
    ],
)  # fmt: skip
def test_models_that_cannot_be_served_say_why(
    config: PretrainedConfig, reason: str, model_folder: ModelFolder, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    message = refusal(model_folder("llama", 0), write_model(tmp_path, config, tokenizer))
    assert message.startswith(f"other: {tmp_path}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised \(gptq\)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"quantised \(awq\)"),
        ({"model_type": "nonesuch"}, "model type `nonesuch`"),
        ({"model_type": "vit"}, "no causal language model"),
        ({"max_position_embeddings": None, "model_type": "mpt"}, "no `max_position_embeddings`; other needs one"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"vocab_size": 290}, "lm_head.weight"),
    ],
)
def test_configurations_that_cannot_be_followed_say_why(
    fields: dict[str, object], reason: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = with_config(copied(model_folder("mistral", 0), tmp_path / "model"), **fields)
    message = refusal(model_folder("llama", 0), folder)
    assert str(folder) in message
    assert re.search(reason, message), message


def test_an_encoder_with_a_decoder_is_no_member(
    model_folder: ModelFolder, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    T5ForConditionalGeneration(
        T5Config(vocab_size=300, d_model=16, d_ff=16, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert f"{tmp_path}: is of model_type 't5', an encoder with a decoder" in refusal(
        model_folder("llama", 0), tmp_path
    )


def test_fewer_outputs_than_the_tokenizer_has_tokens_are_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(model_folder("mistral", 0), tmp_path / "model")
    with_weights(
        with_config(folder, vocab_size=290),
        lambda weights: {name: one[:290] if len(one) == 300 else one for name, one in weights.items()},
    )
    assert f"other: {folder}: has 290 output tokens, its tokenizer 300" in refusal(model_folder("llama", 0), folder)


def test_every_command_refuses_the_same_before_it_does_anything(model_folder: ModelFolder, tmp_path: Path) -> None:
    """No Ray runs here, and there is no data."""
    folder = without(copied(model_folder("qwen3", 0), tmp_path / "model"), [Q_PROJ])
    broken = collaboration(model_folder("llama", 0), folder)
    trained = TrainedCollaboration(broken, DeferralHead(32, 1), Calibration(0.5, ()), "any")
    whole = TrainedCollaboration(
        collaboration(model_folder("llama", 0), model_folder("qwen3", 0)), trained.head, trained.calibration, "any"
    )
    guest = broken.experts[0].model_copy(update={"name": "guest"})
    for command in (
        lambda: planned(broken, None),
        lambda: score(broken, tmp_path / "run"),
        lambda: train(broken, tmp_path / "run"),
        lambda: TeamSpec.of(trained),
    ):
        with pytest.raises(ColllmError, match=f"^other: {folder}: .* missing: {Q_PROJ};"):
            command()
    with pytest.raises(ColllmError, match=f"^guest: {folder}: .* missing: {Q_PROJ};"):
        TeamSpec.of(whole, [guest])
    assert not (tmp_path / "run").exists()


def test_weights_that_the_model_ignores_on_purpose_are_no_fault(model_folder: ModelFolder, tmp_path: Path) -> None:
    """Old checkpoints hold what is computed today; tied ones hold both or one of two."""
    folder = copied(model_folder("llama", 0), tmp_path / "model")
    with_weights(
        folder,
        lambda weights: {
            **weights,
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
            "lm_head.weight": weights["model.embed_tokens.weight"].clone(),
        },
    )
    check_members(collaboration(folder, folder))
    without(folder, ["model.embed_tokens.weight"])
    check_members(collaboration(folder, folder))
    loaded = LanguageModel.load(ModelConfig(model=str(folder)), 300).model
    plain = LanguageModel.load(ModelConfig(model=str(model_folder("llama", 0))), 300).model
    torch.testing.assert_close(loaded.get_input_embeddings().weight, plain.get_input_embeddings().weight)


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["q_proj", "lm_head"], "in another layer too"),
        (["embed_tokens"], "in another layer too"),
        (["q_proj", "w_proj"], "has no layer named w_proj"),
        (["norm"], "can have no such adapter"),
    ],
)
def test_adapters_that_could_not_be_trained_are_refused(
    targets: list[str], reason: str, model_folder: ModelFolder
) -> None:
    training = {"mode": "lora", "base": {"lora": {"targets": targets}}}
    message = refusal(model_folder("llama", 0), model_folder("qwen3", 0), training=training)
    assert message.startswith("base: training.base.lora.targets: ")
    assert reason in message
    if "lm_head" in targets:  # of its own, elsewhere
        check_members(collaboration(model_folder("mistral", 0), model_folder("qwen3", 0), training=training))


def test_an_index_that_is_none_is_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(model_folder("mistral", 0), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(["model.safetensors"]))
    assert "has no `weight_map`" in refusal(model_folder("llama", 0), folder)
