"""The text of tokens; tests/data/test_tokenizers.py has the rules that hold for all kinds of tokenizers."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from colllm_ray.data.text import TextStream, pieces_behind
from colllm_ray.lab.tokenizer import train_tokenizer

TOKENIZER: PreTrainedTokenizerFast = train_tokenizer(["the quick brown fox", "où est le café?"], vocab_size=300)


def test_a_character_of_several_tokens_belongs_to_its_last() -> None:
    ids = TOKENIZER("日")["input_ids"]
    assert pieces_behind((), ids, TOKENIZER) == [*[""] * (len(ids) - 1), "日"]


def test_a_piece_comes_with_its_token_where_nothing_can_change_it() -> None:
    stream = TextStream(TOKENIZER)
    assert all(len(stream.add(token)) == 1 for token in TOKENIZER("the quick brown fox")["input_ids"])


def test_bytes_that_make_no_character_are_not_kept_for_ever() -> None:
    stream = TextStream(TOKENIZER)
    half = TOKENIZER("日")["input_ids"][0]
    told = [piece for _ in range(200) for piece in stream.add(half)]
    assert 197 < len(told) < 200
    assert len(stream._window) < 50
    good = TOKENIZER(" the")["input_ids"]
    assert "".join(piece for token in good for piece in stream.add(token)).endswith(" the")
