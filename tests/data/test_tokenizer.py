from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.config import Collaboration
from colllm_ray.data.tokenizer import encoding_hash, shared_tokenizer, vocabulary_hash
from colllm_ray.errors import ColllmError
from colllm_ray.lab.tokenizer import train_tokenizer


def collaboration(base: Path, expert: Path) -> Collaboration:
    return Collaboration.model_validate(
        {
            "name": "two",
            "base": {"model": str(base)},
            "experts": [{"name": "other", "model": str(expert)}],
            "data": {"train": "t", "validation": "v"},
        }
    )


def test_a_saved_tokenizer_keeps_its_hashes(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert vocabulary_hash(saved) == vocabulary_hash(tokenizer)
    assert encoding_hash(saved) == encoding_hash(tokenizer)


def test_another_template_is_the_same_vocabulary_but_encodes_otherwise(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    other = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    other.chat_template = other.chat_template.replace("<|user|>", "<|user|> ")
    assert vocabulary_hash(other) == vocabulary_hash(tokenizer)
    assert encoding_hash(other) != encoding_hash(tokenizer)


def test_members_may_share_a_tokenizer(model_folder: Callable[[str, int], Path]) -> None:
    assert len(shared_tokenizer(collaboration(model_folder("llama", 0), model_folder("qwen3", 0)))) == 300


def test_different_tokenizers_are_refused_by_name(model_folder: Callable[[str, int], Path], tmp_path: Path) -> None:
    train_tokenizer(["other words than those"], vocab_size=290).save_pretrained(tmp_path)
    with pytest.raises(ColllmError, match=rf"the base \(.*llama-0, 300 .* 'other' \({tmp_path}, 2\d\d tokens"):
        shared_tokenizer(collaboration(model_folder("llama", 0), tmp_path))
