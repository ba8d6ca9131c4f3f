from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.text import PieceStream, pieces_of, text_of
from colllm_ray.lab.tokenizer import train_tokenizer

TOKENIZER: PreTrainedTokenizerFast = train_tokenizer(["the quick brown fox", "où est le café?"], vocab_size=300)


@given(st.text(max_size=40))
def test_the_pieces_of_a_text_make_the_text(text: str) -> None:
    ids = [*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id]
    pieces = pieces_of(ids, TOKENIZER)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text_of(ids, TOKENIZER)
    if "<|" not in text:  # which may spell a special token
        assert text_of(ids, TOKENIZER) == text


@given(st.text(max_size=10), st.integers(0, 12))
def test_the_pieces_of_a_text_that_is_cut_anywhere_make_it(text: str, length: int) -> None:
    ids = TOKENIZER(text)["input_ids"][:length]
    assert "".join(pieces_of(ids, TOKENIZER)) == text_of(ids, TOKENIZER)


def test_a_character_of_several_tokens_belongs_to_its_last() -> None:
    ids = TOKENIZER("日")["input_ids"]
    assert pieces_of(ids, TOKENIZER) == [*[""] * (len(ids) - 1), "日"]


def test_bytes_that_make_no_character_are_not_kept_for_ever() -> None:
    stream = PieceStream(TOKENIZER)
    half = TOKENIZER("日")["input_ids"][0]
    for _ in range(50):
        stream.add(half)
        assert len(stream._ids) < 10
    good = TOKENIZER(" the")["input_ids"]
    assert "".join(stream.add(token) for token in good).endswith(" the")
