"""Models with random weights, on disk: real shapes and costs, nothing learned."""

from __future__ import annotations

import random
import shutil
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from colllm_ray.lab.language_model_training import save_language_model
from colllm_ray.lab.tokenizer import train_tokenizer

Size = Literal["2M", "30M", "170M"]

VOCABULARY = 32_000  # Llama 2's, which the paper's models are
SPECIAL_TOKENS = 4  # the lab's: the first ids
FIRST_WORD = SPECIAL_TOKENS + 256  # before it, the single bytes; every id in [FIRST_WORD, VOCABULARY) is plain text
CONTEXT = 1024  # tokens

_WIDTHS: dict[Size, dict[str, int]] = {
    "2M": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "30M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4, "num_attention_heads": 8},
    "170M": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 11, "num_attention_heads": 16},
}


def write_model(folder: Path, size: Size, seed: int) -> Path:
    """FOLDER/SIZE-SEED, a Hugging Face folder in float32 safetensors with its tokenizer; written once, then kept.

    Sizes are Llamas of 2.1, 29.2 and 174.1 million weights; the smallest is for smokes. Models of every size and seed
    share one tokenizer.
    """
    out = folder / f"{size}-{seed}"
    if out.exists():
        return out
    tokenizer = _tokenizer()
    config = LlamaConfig(
        **_WIDTHS[size],
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    disable_progress_bar()
    unfinished = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_language_model(LlamaForCausalLM(config), unfinished)
    tokenizer.save_pretrained(unfinished)
    return unfinished.rename(out)


def invented_words(count: int) -> list[str]:
    """The same ones in every run."""
    rng = random.Random("benchmarks/tokenizer")
    syllables = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwz" for vowel in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(count)]


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of exactly VOCABULARY entries: BPE over more invented words than it can hold."""
    tokenizer = train_tokenizer([" ".join(invented_words(40_000))], VOCABULARY)
    assert len(tokenizer) == VOCABULARY, "40 000 words hold more pairs than there are entries"
    return tokenizer
