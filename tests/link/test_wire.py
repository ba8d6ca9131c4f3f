from __future__ import annotations

from contextlib import suppress
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.engine.messages import MOST_TOP, Behind, Choice, Extend, Extended, Failed, More, Sampling
from colllm_ray.link.fields import WireError
from colllm_ray.link.wire import (
    MAX_HANDSHAKE,
    MAX_MESSAGE,
    Challenge,
    Close,
    Decoder,
    Hold,
    Message,
    Ping,
    Pong,
    Proof,
    Release,
    Welcome,
    decode,
    encode,
)

names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=200)
counts = st.integers(0, 2**31 - 1)
numbers = st.floats(allow_nan=False)
digests = st.binary(min_size=32, max_size=32)
samplings = st.builds(
    Sampling,
    st.floats(0, exclude_min=True),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 2**63 - 1),
)
scores = st.none() | st.lists(numbers, max_size=5).map(tuple)
tops = st.lists(st.tuples(counts, numbers), max_size=3).map(tuple)
distributions = st.binary(max_size=5).map(lambda some: 4 * some)
optional = st.none() | numbers
choices = st.builds(Choice, counts, numbers, scores, optional, tops, optional, st.none() | distributions)


@st.composite
def extends(draw: st.DrawFn) -> Extend:
    tokens = tuple(draw(st.lists(counts, min_size=1, max_size=50)))
    want = draw(st.integers(0, len(tokens)))
    drafts = draw(counts) if want else 0
    gold = tokens[:want] if draw(st.booleans()) else ()
    top = draw(st.integers(0, MOST_TOP))
    more = draw(st.sampled_from(get_args(More)))
    begin = draw(names), draw(counts), tokens, draw(counts), want, drafts
    return Extend(*begin, draw(st.none() | samplings), gold, top, more)


messages: st.SearchStrategy[Message] = st.one_of(
    extends(),
    st.builds(Extended, names, counts, counts, st.lists(choices, max_size=5).map(tuple), numbers),
    st.builds(Behind, names, counts, counts),
    st.builds(Failed, names, counts, st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(Close, names),
    st.builds(Hold, names),
    st.builds(Release, names),
    st.builds(Challenge, digests),
    st.builds(Proof, digests, digests),
    st.builds(Welcome, digests),
    st.builds(Ping),
    st.builds(Pong),
)


@given(st.lists(messages, max_size=5), st.data())
def test_a_stream_gives_its_messages_however_it_is_split(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder = Decoder(MAX_MESSAGE)
    got = [
        message
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for message in decoder.feed(stream[begin:end])
    ]
    assert got == sent
    assert not decoder.is_within_message


@given(messages, st.data())
def test_an_unfinished_message_is_waited_for(message: Message, data: st.DataObject) -> None:
    frame = encode(message)
    decoder = Decoder(MAX_MESSAGE)
    assert list(decoder.feed(frame[: data.draw(st.integers(1, len(frame) - 1))])) == []
    assert decoder.is_within_message


@given(st.binary(max_size=500))
def test_garbage_is_no_message(garbage: bytes) -> None:
    decoder = Decoder(MAX_MESSAGE)
    with suppress(WireError):
        assert list(decoder.feed(garbage)) == []


@given(st.binary(max_size=100))
def test_garbage_of_the_right_length_is_refused(garbage: bytes) -> None:
    with pytest.raises(WireError):
        decode(garbage)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=10,
)
tags = st.sampled_from("extend extended behind failed close hold release challenge proof welcome ping pong".split())


@given(tags, st.lists(plain, max_size=8))
def test_fields_of_any_other_kind_are_refused_or_valid(tag: str, fields: list[object]) -> None:
    try:
        message = decode(msgpack.packb([tag, *fields], unicode_errors="surrogatepass"))
    except WireError:
        return
    assert decode(encode(message)[4:]) == message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (7, "int instead of an array"),
        ({}, "dict instead of an array"),
        ([], "an array without a tag"),
        ([1, "s"], "an array without a tag"),
        (["shutdown", "s"], "no message 'shutdown' has 1 such fields"),
        (["behind", "s"], "no message 'behind' has 1 such fields"),
        (["behind", "s", 1, 2, 3], "no message 'behind' has 4 such fields"),
        (["behind", "s", 1, True], "have: must be an integer from 0"),
        (["behind", "s", 1, 1.0], "have: must be an integer from 0"),
        (["behind", "s", 1, 2**31], "have: must be an integer from 0"),
        (["behind", "s", -1, 1], "number: must be an integer from 0"),
        (["close", ""], "must be a printable name of 1 to 200 characters"),
        (["close", "s" * 201], "must be a printable name of 1 to 200 characters"),
        (["close", "s\n"], "must be a printable name of 1 to 200 characters"),
        (["close", b"s"], "must be a printable name of 1 to 200 characters"),
        (["challenge", b"short"], "must be 32 bytes"),
        (["failed", "s", 1, 5], "no message 'failed' has 3 such fields"),
        (["extend", "s", 1, 0, [], 0, 0, None, [], 0, "nothing"], "needs start >= 0 and at least one token"),
        (["extend", "s", 1, 0, [1], 2, 0, None, [], 0, "nothing"], "cannot answer after 2 of 1 tokens"),
        (["extend", "s", 1, 0, [1], 0, 3, None, [], 0, "nothing"], "drafts 3 tokens after 0 answers"),
        (["extend", "s", 1, 0, 1, 1, 0, None, [], 0, "nothing"], "tokens: must be an array"),
        (["extend", "s", 1, 0, [1], 1, 0, [0.0, 1.0, 0], [], 0, "nothing"], "temperature 0.0: must be above 0"),
        (["extend", "s", 1, 0, [1], 1, 0, [float("nan"), 1.0, 0], [], 0, "nothing"], "temperature: must be a number"),
        (["extend", "s", 1, 0, [1], 1, 0, [1.0, 1.0], [], 0, "nothing"], "sampling: must be an array"),
        (["extend", "s", 1, 0, [1], 1, 0, None, [], 21, "nothing"], "asks for the 21 likeliest; at most 20"),
        (["extend", "s", 1, 0, [1], 1, 0, None, [], 0, "all"], "more: must be one of nothing, entropy"),
        (["extended", "s", 1, 0, [[1, 0.0, None, None, [], "x", None]], 0.0], "entropy: must be a number"),
        (["extended", "s", 1, 0, [[1, 0.0, None, None, [], None, b"abc"]], 0.0], "must be bytes of float32"),
        (["extended", "s", 1, 0, [[1, "x", None, None, [], None, None]], 0.0], "logprob: must be a number"),
        (["extended", "s", 1, 0, [[1, 0.0]], 0.0], "choices: must be arrays"),
        (["extended", "s", 1, 0, [[1, 0.0, [None], None, [], None, None]], 0.0], "scores: must be a number"),
        (["extended", "s", 1, 0, [[1, 0.0, None, "x", [], None, None]], 0.0], "gold_logprob: must be a number"),
        (["extended", "s", 1, 0, [[1, 0.0, None, None, [[1]], None, None]], 0.0], "top: must be pairs"),
        (["extended", "s", 1, 0, [], "x"], "seconds: must be a number"),
        (["extend", "s", 1, 0, [1, 2], 2, 0, None, [3], 0, "nothing"], "1 gold tokens for 2 answers"),
    ],
)
def test_a_refusal_says_what_was_wrong(fields: object, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode(msgpack.packb(fields))


@pytest.mark.parametrize("wrong", [-71717, 2**31 + 71717, 71717.5, "71717"])
def test_a_refusal_quotes_no_token(wrong: object) -> None:
    with pytest.raises(WireError) as caught:
        decode(msgpack.packb(["extend", "s", 1, 0, [71717, wrong], 1, 0, None, [], 0, "nothing"]))
    assert str(caught.value) == "tokens: must be integers from 0 to 2^31 - 1"
    assert caught.value.__cause__ is None


def test_the_header_alone_tells_what_is_too_long() -> None:
    for limit in (MAX_HANDSHAKE, MAX_MESSAGE):
        assert list(Decoder(limit).feed(limit.to_bytes(4))) == []
        with pytest.raises(WireError, match=f"a message of {limit + 1} bytes: at most {limit} are taken"):
            list(Decoder(limit).feed((limit + 1).to_bytes(4)))


def test_messages_before_a_wrong_one_are_given() -> None:
    stream = Decoder(MAX_MESSAGE).feed(encode(Close("a")) + b"\0\0\0\1\xc1" + encode(Close("b")))
    assert next(stream) == Close("a")
    with pytest.raises(WireError, match="not a message"):
        next(stream)


@pytest.mark.parametrize(
    "message",
    [
        Extend("s", 0, (1, -1)),
        Extend("s", 0, (2**31,)),
        Extend("s", 0, (1,), draft=2**31),
        Extend("s", 0, (1,), sampling=Sampling(float("nan"))),
        Extend("s", 0, tuple([2**31 - 1] * 2**20)),
        Extended("s", 1, 0, (Choice(1, float("nan")),)),
        Extended("s", 1, 0, (Choice(1, 0.0, (float("nan"),)),)),
        Failed("s", 1, "\ud800"),
        Close("s" * 201),
    ],
    ids=["negative", "large", "draft", "temperature", "oversize", "nan", "nan score", "surrogate", "long name"],
)
def test_what_the_peer_would_refuse_is_not_sent(message: Message) -> None:
    with pytest.raises(WireError):
        encode(message)
