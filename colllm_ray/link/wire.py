"""Messages as bytes: four bytes of length, big endian, then a msgpack array of the message's tag and its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgpack

from colllm_ray.engine.messages import Behind, Choice, Extend, Extended, Failed, Reply, Sampling
from colllm_ray.link.fields import (
    WireError,
    array_of,
    count_of,
    digest_of,
    distribution_of,
    more_of,
    name_of,
    number_of,
    numbers_of,
    tokens_of,
)

MAX_MESSAGE = 4 * 2**20  # bytes
MAX_HANDSHAKE = 256  # bytes, from a peer that has proved nothing yet
_HEADER = 4  # bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session is not needed any more."""

    session: str


@dataclass(frozen=True, slots=True)
class Hold:
    """This connection now answers for the lease, a name that is used once."""

    lease: str


@dataclass(frozen=True, slots=True)
class Release:
    """The lease ends."""

    lease: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's first words."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The client knows the secret; the server is asked the same."""

    mac: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server knows the secret too."""

    mac: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Is anybody there?"""


@dataclass(frozen=True, slots=True)
class Pong:
    """Somebody is; what was asked before may still take a while."""


Message = Extend | Close | Hold | Release | Reply | Challenge | Proof | Welcome | Ping | Pong


def encode(message: Message) -> bytes:
    """The message with its length before it; raises WireError for what `decode` would refuse."""
    try:
        payload: bytes = _packer.pack(_fields(message))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{type(message).__name__}: {error}") from None
    if len(payload) > MAX_MESSAGE:
        raise WireError(f"{type(message).__name__} of {len(payload)} bytes: at most {MAX_MESSAGE} are sent")
    return len(payload).to_bytes(_HEADER) + payload


def decode(payload: bytes | bytearray) -> Message:
    """The message in a payload, without its length; raises WireError."""
    try:
        fields = msgpack.unpackb(payload, use_list=False, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"not a message: {type(error).__name__} {error}") from None
    if type(fields) is not tuple:
        raise WireError(f"not a message: {type(fields).__name__} instead of an array")
    try:
        return _message(fields)
    except ValueError as error:
        raise WireError(str(error)) from None


class Decoder:
    """Cuts a stream of bytes into messages of at most `limit` bytes, which may be changed between two of them."""

    def __init__(self, limit: int = MAX_HANDSHAKE) -> None:
        self.limit = limit
        self._held = bytearray()

    @property
    def is_within_message(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Takes the bytes in and yields the messages that are complete with them.

        Raises WireError where the stream is none of ours; nothing that follows in it can be read then.
        """
        held, begin = self._held, 0
        held += data
        while len(held) >= begin + _HEADER:
            size = int.from_bytes(held[begin : begin + _HEADER])
            if size > self.limit:
                raise WireError(f"a message of {size} bytes: at most {self.limit} are taken")
            end = begin + _HEADER + size
            if len(held) < end:
                break
            yield decode(held[begin + _HEADER : end])
            begin = end
        del held[:begin]


_packer = msgpack.Packer()  # one for all: a new one allocates its buffer anew


def _fields(message: Message) -> tuple[object, ...]:
    """Tag and fields; checks what types alone do not promise, so that a mistake here does not cost the connection."""
    match message:
        case Extend(session=session, number=number, start=start, tokens=tokens):
            sampling = None if message.sampling is None else _sampling_fields(message.sampling)
            begin = count_of(number, "number"), count_of(start, "start")
            how = message.want, count_of(message.draft, "draft"), sampling
            told = tokens_of(message.gold), message.top, message.more
            return "extend", name_of(session), *begin, tokens_of(tokens), *how, *told
        case Extended(session=session, number=number, index=index, choices=choices):
            begin = count_of(number, "number"), count_of(index, "index")
            seconds = number_of(message.seconds, "seconds")
            return "extended", name_of(session), *begin, tuple(map(_choice_fields, choices)), seconds
        case Behind(session=session, number=number, have=have):
            return "behind", name_of(session), count_of(number, "number"), count_of(have, "have")
        case Failed(session=session, number=number, reason=reason):
            return "failed", name_of(session), count_of(number, "number"), reason
        case Close(session=session):
            return "close", name_of(session)
        case Hold(lease=lease):
            return "hold", name_of(lease)
        case Release(lease=lease):
            return "release", name_of(lease)
        case Challenge(nonce=nonce):
            return "challenge", digest_of(nonce)
        case Proof(mac=mac, nonce=nonce):
            return "proof", digest_of(mac), digest_of(nonce)
        case Welcome(mac=mac):
            return "welcome", digest_of(mac)
        case Ping():
            return ("ping",)
        case Pong():
            return ("pong",)


def _message(fields: tuple[object, ...]) -> Message:
    match fields:
        case ("extend", session, number, start, tokens, want, draft, sampling, gold, top, more):
            return Extend(
                session=name_of(session),
                number=count_of(number, "number"),
                start=count_of(start, "start"),
                tokens=tokens_of(tokens),
                want=count_of(want, "want"),
                draft=count_of(draft, "draft"),
                sampling=None if sampling is None else _sampling(sampling),
                gold=tokens_of(gold),
                top=count_of(top, "top"),
                more=more_of(more),
            )
        case ("extended", session, number, index, choices, seconds):
            return Extended(
                session=name_of(session),
                number=count_of(number, "number"),
                index=count_of(index, "index"),
                choices=tuple(map(_choice, array_of(choices, "choices"))),
                seconds=number_of(seconds, "seconds"),
            )
        case ("behind", session, number, have):
            return Behind(session=name_of(session), number=count_of(number, "number"), have=count_of(have, "have"))
        case ("failed", session, number, str(reason)):
            return Failed(session=name_of(session), number=count_of(number, "number"), reason=reason)
        case ("close", session):
            return Close(name_of(session))
        case ("hold", lease):
            return Hold(name_of(lease))
        case ("release", lease):
            return Release(name_of(lease))
        case ("challenge", nonce):
            return Challenge(digest_of(nonce))
        case ("proof", mac, nonce):
            return Proof(digest_of(mac), digest_of(nonce))
        case ("welcome", mac):
            return Welcome(digest_of(mac))
        case ("ping",):
            return Ping()
        case ("pong",):
            return Pong()
        case (str(tag), *rest):
            raise WireError(f"no message {tag[:20]!r} has {len(rest)} such fields")
        case _:
            raise WireError("not a message: an array without a tag")


def _choice_fields(choice: Choice) -> tuple[object, ...]:
    scores = None if choice.scores is None else numbers_of(choice.scores, "scores")
    gold = None if choice.gold_logprob is None else number_of(choice.gold_logprob, "gold_logprob")
    top = tuple((count_of(token, "token"), number_of(logprob, "logprob")) for token, logprob in choice.top)
    entropy = None if choice.entropy is None else number_of(choice.entropy, "entropy")
    begin = count_of(choice.token, "token"), number_of(choice.logprob, "logprob")
    return *begin, scores, gold, top, entropy, distribution_of(choice.distribution)


def _choice(value: object) -> Choice:
    match value:
        case (token, logprob, scores, gold, top, entropy, distribution):
            values = None if scores is None else numbers_of(scores, "scores")
            gold_logprob = None if gold is None else number_of(gold, "gold_logprob")
            likeliest = tuple(_likely(each) for each in array_of(top, "top"))
            return Choice(
                token=count_of(token, "token"),
                logprob=number_of(logprob, "logprob"),
                scores=values,
                gold_logprob=gold_logprob,
                top=likeliest,
                entropy=None if entropy is None else number_of(entropy, "entropy"),
                distribution=distribution_of(distribution),
            )
        case _:
            raise WireError("choices: must be arrays of the fields of a choice")


def _likely(value: object) -> tuple[int, float]:
    match value:
        case (token, logprob):
            return count_of(token, "token"), number_of(logprob, "logprob")
        case _:
            raise WireError("top: must be pairs of token and logprob")


def _sampling_fields(sampling: Sampling) -> tuple[object, ...]:
    return number_of(sampling.temperature, "temperature"), number_of(sampling.top_p, "top_p"), sampling.seed


def _sampling(value: object) -> Sampling:
    match value:
        case (temperature, top_p, int(seed)):
            return Sampling(number_of(temperature, "temperature"), number_of(top_p, "top_p"), seed)
        case _:
            raise WireError("sampling: must be an array of temperature, top_p and seed")
