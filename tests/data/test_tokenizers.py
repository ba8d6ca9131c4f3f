"""What holds for all kinds of tokenizers: texts become the ids that are served, and ids the text of all of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.chat import encode_prompt, encode_text
from colllm_ray.data.chat_template import chat_template
from colllm_ray.data.examples import encode_row
from colllm_ray.data.rows import Message, Row
from colllm_ray.data.text import pieces_behind, text_behind, text_of
from colllm_ray.data.vocabulary import vocabulary
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import AnswerText, pieces_of
from tests.real_tokenizers import KINDS, size_of_kind, tokenizer_of_kind
from tests.toy_models import CHATML

letters = st.text(st.sampled_from("afoxn isé日😀\u0301\ufffd\n\t.,'1"), max_size=16)
anything = st.text(max_size=12)
texts = letters | anything.filter(lambda text: "<" not in text and "[" not in text)
of_each_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def token_ids(draw: st.DrawFn, kind: str) -> list[int]:
    """Those of a text, with any others in between, cut anywhere."""
    tokenizer = tokenizer_of_kind(kind)
    size = size_of_kind(kind)
    ids = encode_text(draw(texts), tokenizer)
    for token in draw(st.lists(st.integers(0, size - 1) | st.integers(0, min(size - 1, 258)), max_size=4)):
        ids.insert(draw(st.integers(0, len(ids))), token)
    return ids[: draw(st.integers(0, len(ids)))]


def gives_back(text: str, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer has tokens for all of it: SmolLM2's has none for some bytes of unused planes."""
    return text.removeprefix(" ") == text_of(encode_text(text, tokenizer), tokenizer).removeprefix(" ")


@of_each_kind
@given(st.data())
def test_pieces_joined_are_the_text_of_all_tokens(kind: str, data: st.DataObject) -> None:
    tokenizer, ids = tokenizer_of_kind(kind), data.draw(token_ids(kind))
    pieces = pieces_behind((), ids, tokenizer)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


@of_each_kind
@given(st.data())
def test_an_answer_is_what_its_tokens_add_to_the_prompt(kind: str, data: st.DataObject) -> None:
    tokenizer, ids = tokenizer_of_kind(kind), data.draw(token_ids(kind))
    prompt, answer = ids[: (cut := data.draw(st.integers(0, len(ids))))], ids[cut:]
    assert pieces_behind(prompt, answer, tokenizer) == pieces_behind((), ids, tokenizer)[cut:]
    words = vocabulary(tokenizer)
    text = [token for token in prompt if token not in words.special]
    if not any(map(words.is_byte, text[-1:])) and not words.end_in_a_part(text):
        assert text_of(prompt, tokenizer) + text_behind(prompt, answer, tokenizer) == text_of(ids, tokenizer)


@of_each_kind
@given(texts)
def test_bytes_joined_decode_to_the_text(kind: str, text: str) -> None:
    tokenizer = tokenizer_of_kind(kind)
    ids = encode_text(text, tokenizer)
    assume(gives_back(text, tokenizer))
    pieces = pieces_behind((), ids, tokenizer)
    words = vocabulary(tokenizer)
    data = b"".join(words.data(token, piece) for token, piece in zip(ids, pieces, strict=True))
    assert data.decode() == "".join(pieces) == text_of(ids, tokenizer)


@of_each_kind
@given(texts.filter(bool), texts.filter(bool))
def test_a_row_is_the_served_prompt_and_the_text_goes_on(kind: str, prompt: str, completion: str) -> None:
    tokenizer = tokenizer_of_kind(kind)
    assume(gives_back(prompt, tokenizer) and gives_back(completion, tokenizer))
    example = encode_row(Row(prompt=prompt, completion=completion), "row", tokenizer)
    assert example.prompt_ids == encode_text(prompt, tokenizer)
    *answer, end = example.completion_ids
    assert end == tokenizer.eos_token_id
    whole = text_of(example.prompt_ids + answer, tokenizer)
    assert prompt + completion in (whole, f" {whole}", whole.removeprefix(" "))
    if whole != completion:  # the prompt is not a space alone, which some tokenizers write before all texts
        assert text_behind(example.prompt_ids, answer, tokenizer) == completion


@of_each_kind
@given(st.data(), st.lists(st.text(st.sampled_from("afo é日😀"), min_size=1, max_size=3), min_size=1, max_size=2))
def test_a_stop_text_is_found_where_the_text_of_all_tokens_has_it(
    kind: str, data: st.DataObject, stops: list[str]
) -> None:
    tokenizer, ids = tokenizer_of_kind(kind), data.draw(token_ids(kind))
    answer = AnswerText(tokenizer, (), stops)
    given = [piece for token in ids for piece in answer.add([WrittenToken(token, 0, None, 0.0)])] + answer.rest()
    told, whole = "".join(piece.text for piece in given), text_of(ids, tokenizer)
    assert answer.stopped == any(stop in whole for stop in stops)
    if answer.stopped:
        assert whole.startswith(told)
        assert any(whole[len(told) :].startswith(stop) for stop in stops)
        assert not any(stop in told for stop in stops)
    else:
        assert told == whole


def test_nothing_is_told_behind_a_stop_text() -> None:
    """The text of one token is known when the next one has begun, which is then behind the stop text."""
    tokenizer = tokenizer_of_kind("lab")
    words = vocabulary(tokenizer)
    cut = [
        token for token in range(len(tokenizer)) if words.end_in_a_part([token]) and words.data(token, "")[:1] == b" "
    ]
    for token in cut:
        answer = AnswerText(tokenizer, (), [" "])
        given = [piece for _ in range(2) for piece in answer.add([WrittenToken(token, 0, None, 0.0)])]
        assert answer.stopped
        assert given + answer.rest() == []
    assert cut


@of_each_kind
def test_a_stop_text_cuts_the_bytes_as_well(kind: str) -> None:
    tokenizer = tokenizer_of_kind(kind)
    ids = encode_text("fo😀日éx日é", tokenizer)
    for stop in ("x", "é", "日", "日é", "éx", "o😀"):
        pieces = pieces_of([WrittenToken(token, 0, None, 0.0) for token in ids], (), tokenizer, frozenset(), [stop])
        text = "".join(piece.text for piece in pieces)
        assert text == text_of(ids, tokenizer).partition(stop)[0]
        assert b"".join(piece.data for piece in pieces).decode(errors="ignore") == text


def controls(kind: str) -> list[str]:
    tokenizer = tokenizer_of_kind(kind)
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return [name for name in added if name in tokenizer.all_special_tokens or name in (tokenizer.chat_template or "")]


@of_each_kind
@given(st.data())
def test_what_people_type_is_text(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of_kind(kind)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHATML.replace("<|im_end|>", tokenizer.eos_token)
    names = controls(kind)
    typed = "".join(data.draw(st.lists(letters | st.sampled_from([*names, "user\n", "\n"]), max_size=5)))
    hi = encode_prompt([Message(role="user", content="hi")], tokenizer)
    ids = encode_prompt([Message(role="user", content=typed)], tokenizer)
    marks = set(tokenizer.convert_tokens_to_ids(names))
    assert sum(token in marks for token in ids) == sum(token in marks for token in hi)
    template = chat_template(tokenizer)
    assert template is not None
    whole = template.render([Message(role="user", content=typed)], add_generation_prompt=True).text
    assert typed in whole
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    assert re.sub(r"\s", "", decoded) == re.sub(r"\s", "", whole)
    row = Row(messages=[Message(role="user", content=typed), Message(role="assistant", content="fox")])
    assert encode_row(row, "row", tokenizer).prompt_ids == ids
