"""Vocabularies with holes, of which the highest id is more than `len` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerBase

from colllm_ray.config import ModelConfig
from colllm_ray.data.tokenizer import vocabulary_size
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.target_scores import TargetScorer, TargetScores
from colllm_ray.engine.text import Text
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from tests.models.folders import collaboration
from tests.toy_models import sentencepiece

HOLES = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose tokenizer lacks ten ids in the middle."""
    tokenizer = sentencepiece(words=["▁The", "▁fox"])
    size = len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    unused = [f"<0x{byte:02X}>" for byte in range(200, 200 + HOLES)]
    for token in unused:
        del content["model"]["vocab"][token]
    file.write_text(json.dumps(content))
    Tokenizer.from_file(str(file))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def loaded_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def test_the_size_of_a_vocabulary_is_its_highest_id_and_one(folder: Path) -> None:
    tokenizer = loaded_tokenizer(folder)
    assert vocabulary_size(tokenizer) == len(tokenizer) + HOLES


def test_the_highest_id_is_taken_and_one_more_is_not(folder: Path) -> None:
    two = collaboration(folder, folder)
    trained = TrainedCollaboration(two, DeferralHead(32, 1), Calibration(0.5, ()), weights_revision(two.base))
    spec = TeamSpec.of(trained)
    highest = vocabulary_size(loaded_tokenizer(folder)) - 1
    spec.check_text([1, highest])
    with pytest.raises(ColllmError, match="none of the vocabulary's"):
        spec.check_text([1, highest + 1])
    assert Team.in_process(trained).answer(AnswerRequest((1, highest), max_tokens=1)) is not None


def test_a_text_with_the_highest_id_is_scored(folder: Path) -> None:
    highest = vocabulary_size(loaded_tokenizer(folder)) - 1
    model = LanguageModel.load(ModelConfig(model=str(folder)), highest + 1)
    (scores,) = TargetScorer(model, 60).score([Text([1, 5, highest], [False, True, True])])
    assert isinstance(scores, TargetScores)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[1, 5, highest]])).logits[0]
    assert float(scores.gold_logprob[1]) == pytest.approx(float(logits[1].log_softmax(-1)[highest]), abs=1e-4)
