from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.text import text_of
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.lab.tokenizer import train_tokenizer
from colllm_ray.serving.api.answer_text import AnswerText, Piece

TOKENIZER: PreTrainedTokenizerFast = train_tokenizer(["the quick brown fox", "où est le café?"], vocab_size=300)


def written(text: str) -> list[WrittenToken]:
    return [WrittenToken(token, 0, None, 0.0) for token in TOKENIZER(text)["input_ids"]]


def told(tokens: list[WrittenToken], stops: list[str], at_once: int) -> tuple[list[Piece], AnswerText]:
    """All that is told of the tokens, which come a few at a time."""
    text = AnswerText(TOKENIZER, (), stops)
    pieces: list[Piece] = []
    for begin in range(0, len(tokens), at_once):
        pieces += text.add(tokens[begin : begin + at_once])
    return (pieces if text.stopped else pieces + text.rest()), text


letters = st.text(st.sampled_from("ab é日"), max_size=20)


@given(letters, st.lists(st.text(st.sampled_from("ab é日"), min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_the_text_ends_before_the_first_stop(text: str, stops: list[str], at_once: int) -> None:
    tokens = written(text)
    pieces, answer = told(tokens, stops, at_once)
    expected = up_to_the_first_stop(tokens, stops)
    assert answer.stopped == (expected is not None)
    assert "".join(piece.text for piece in pieces) == (text if expected is None else expected)
    assert [piece.written for piece in pieces] == tokens[: len(pieces)]
    if expected is None:
        assert len(pieces) == len(tokens) == answer.tokens


def up_to_the_first_stop(tokens: list[WrittenToken], stops: list[str]) -> str | None:
    """The text before the stop that is complete after the fewest tokens."""
    for length in range(len(tokens) + 1):
        text = text_of([token.token for token in tokens[:length]], TOKENIZER)
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        if found and not text.endswith("\ufffd"):
            return text[: min(found)]
    return None


@given(letters, st.integers(0, 12))
def test_an_answer_that_is_cut_in_a_character_is_told_as_it_decodes(text: str, length: int) -> None:
    tokens = written(text)[:length]
    pieces, _ = told(tokens, [], 1)
    assert "".join(piece.text for piece in pieces) == text_of([token.token for token in tokens], TOKENIZER)
    assert len(pieces) == len(tokens)


def test_text_that_may_begin_a_stop_is_held_back() -> None:
    answer = AnswerText(TOKENIZER, (), ["xyz"])
    assert "".join(piece.text for piece in answer.add(written("ab"))) == "ab"
    assert answer.add(written("xy")) == []
    assert "".join(piece.text for piece in answer.add(written("a"))) == "xya"
    assert answer.add(written("xy")) == []
    assert "".join(piece.text for piece in answer.rest()) == "xy"


def test_tokens_behind_a_stop_do_not_belong_to_the_answer() -> None:
    answer = AnswerText(TOKENIZER, (), ["q"])
    pieces = answer.add(written("ab"))
    assert answer.add(written("q")) == []
    before = answer.tokens
    assert answer.stopped
    assert answer.add(written("more")) == []
    assert (len(pieces), answer.tokens) == (before - 1, before)
