from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import FIRST_WORD, VOCABULARY, write_model


def test_models_have_a_size_a_seed_and_one_tokenizer_as_large_as_their_vocabulary(tmp_path: Path) -> None:
    folders = [write_model(tmp_path, "30M", seed) for seed in (0, 1)]
    first, second = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)
    assert first.dtype == torch.float32
    assert 29e6 < first.num_parameters() < 31e6
    assert not torch.equal(first.get_input_embeddings().weight, second.get_input_embeddings().weight)
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in folders]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    assert len(tokenizers[0]) == first.config.vocab_size == VOCABULARY
    assert max(tokenizers[0].all_special_ids) < FIRST_WORD
    assert all(tokenizers[0].decode([token]).isascii() for token in range(FIRST_WORD, VOCABULARY))


def test_a_model_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "30M-0").mkdir()
    assert write_model(tmp_path, "30M", 0) == tmp_path / "30M-0"
    assert not list((tmp_path / "30M-0").iterdir())
