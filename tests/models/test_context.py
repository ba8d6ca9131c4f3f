"""How long a text may be, by what a configuration says of RoPE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from colllm_ray.config import ModelConfig
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended
from colllm_ray.errors import ColllmError
from colllm_ray.models.members import check_members
from tests.conftest import ModelFolder
from tests.models.folders import collaboration, write_model

FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


def written(folder: Path, tokenizer: PreTrainedTokenizerFast, longest: int = 64, **rope: Any) -> Path:
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=longest, initializer_range=0.3, rope_parameters={"rope_theta": 1e4, **rope},
    )  # fmt: skip
    torch.manual_seed(0)
    return write_model(folder, config, tokenizer)


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({"rope_type": "default"}, 64),
        ({"rope_type": "linear", "factor": 4.0}, 256),
        ({"rope_type": "yarn", "factor": 4.0}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),  # the 64 say it already
        ({"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 16, **LLAMA3}, 64),
        ({"rope_type": "dynamic", "factor": 4.0}, 64),  # it was made for more, which cannot be served
        ({"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 16, **FACTORS}, 16),
    ],
)
def test_a_context_is_as_long_as_the_model_was_made_for(
    rope: dict[str, Any], longest: int, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = written(tmp_path, tokenizer, **rope)
    assert check_members(collaboration(folder, folder)).context == longest
    assert check_members(collaboration(folder, folder, context=longest)).context == longest
    with pytest.raises(
        ColllmError, match=f"^context: {longest + 1} tokens are more than base takes, {longest}.*lower it"
    ):
        check_members(collaboration(folder, folder, context=longest + 1))


def test_the_shortest_member_says_how_long_texts_are(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, model_folder: ModelFolder
) -> None:
    stretched, plain = written(tmp_path, tokenizer, rope_type="linear", factor=4.0), model_folder("qwen3", 0)
    assert check_members(collaboration(stretched, plain)).context == 64
    with pytest.raises(ColllmError, match=r"^context: 200 tokens are more than other takes, 64; lower it"):
        check_members(collaboration(stretched, plain, context=200))


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_long_texts_of_a_stretched_model_are_served_as_transformers_does(
    kind: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = written(tmp_path, tokenizer, rope_type=kind, factor=4.0)
    text = torch.randint(300, (1, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folder)(text).logits[0, -1].log_softmax(-1)
    engine = Engine(LanguageModel.load(ModelConfig(model=str(folder)), 300), 1, 200)
    tokens = tuple(text[0].tolist())
    engine.extend([Extend("a", 0, tokens[:150])])
    (reply,) = engine.extend([Extend("a", 150, tokens[150:])])
    assert isinstance(reply, Extended)
    assert reply.choices[0].token == int(expected.argmax())
    assert reply.choices[0].logprob == pytest.approx(float(expected.max()), abs=1e-4)


def test_dynamic_rope_is_served_as_long_as_it_turns_all_texts_alike(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = ModelConfig(model=str(written(tmp_path, tokenizer, rope_type="dynamic", factor=4.0)))
    Engine(LanguageModel.load(model, 300), 1, 64)
    with pytest.raises(ColllmError, match="dynamic RoPE turns all texts of a step"):
        Engine(LanguageModel.load(model, 300), 1, 65)
