from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.config import Collaboration
from colllm_ray.data.tokenizer import shared_tokenizer, tokenizer_hash
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


def test_a_saved_tokenizer_keeps_its_hash(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_hash(PreTrainedTokenizerFast.from_pretrained(tmp_path)) == tokenizer_hash(tokenizer)


def test_members_may_share_a_tokenizer(model_folder: Callable[[str, int], Path]) -> None:
    assert len(shared_tokenizer(collaboration(model_folder("llama", 0), model_folder("qwen3", 0)))) == 300


def test_different_tokenizers_are_refused_by_name(model_folder: Callable[[str, int], Path], tmp_path: Path) -> None:
    train_tokenizer(["other words than those"], vocab_size=290).save_pretrained(tmp_path)
    with pytest.raises(ColllmError, match=rf"the base \(.*llama-0, 300 .* 'other' \({tmp_path}, 2\d\d tokens"):
        shared_tokenizer(collaboration(model_folder("llama", 0), tmp_path))
