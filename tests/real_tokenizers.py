"""Tokenizers of real models, from the files in tests/data/real_tokenizers, and all kinds of tokenizers side by side."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from colllm_ray.lab.tokenizer import train_tokenizer
from tests.toy_models import across, sentencepiece, unigram

FOLDER = Path(__file__).parent / "data" / "real_tokenizers"


def real_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """That of a model: `smollm2`, `qwen2.5` or `mistral-v3`."""
    content = json.loads(lzma.decompress((FOLDER / f"{name}.json.xz").read_bytes()))
    raw = Tokenizer.from_str(json.dumps(content["tokenizer"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **content["names"])
    tokenizer.chat_template = content["chat_template"]
    return tokenizer


def _spaced() -> PreTrainedTokenizerFast:
    """Byte-level, with a space before a text, as RoBERTa's."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["the quick brown fox jumps over the lazy dog"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


WORDS = ("▁is", "▁the", "▁fox", "▁Paris", "ing")
TURN = ("<|im_start|>", "<|im_end|>")
KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "lab": lambda: train_tokenizer(["the quick brown fox", "où est le café? 日本語"], vocab_size=300),
    "spaced": _spaced,
    "across": across,
    "sentencepiece": lambda: sentencepiece(words=WORDS, merges=[("n", "f")], special=TURN),
    "sentencepiece without space": lambda: sentencepiece(words=WORDS, plain=TURN, prefix_space=False),
    "unigram": lambda: unigram(words=WORDS),
    "smollm2": lambda: real_tokenizer("smollm2"),
    "qwen2.5": lambda: real_tokenizer("qwen2.5"),
    "mistral-v3": lambda: real_tokenizer("mistral-v3"),
}


@cache
def tokenizer_of_kind(kind: str) -> PreTrainedTokenizerFast:
    return KINDS[kind]()


@cache
def size_of_kind(kind: str) -> int:
    """One more than the highest id."""
    vocabulary: dict[str, int] = tokenizer_of_kind(kind).get_vocab()
    return max(vocabulary.values()) + 1
